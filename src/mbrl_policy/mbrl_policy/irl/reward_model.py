# SPDX-License-Identifier: Apache-2.0
"""A learned reward while it is being learned: the same function as `LearnedReward`, with weights that torch changes."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import parameter
from mbrl_core.learned_reward import LearnedReward
from mbrl_core.reward_network import HEADS, MOST_MEMBERS, RewardLayout, encode_reward
from mbrl_core.specs import Array, RobotSpec

LEAST_SCALE = 1e-3  # of an input, SI units: one that never changes says nothing


@dataclass(frozen=True)
class RewardConfig:
    """Parameters of a reward network, see `mbrl_core.reward_network`."""

    members: int = parameter(
        8, "networks, each from weights of its own; the reward is their mean", minimum=1, maximum=MOST_MEMBERS
    )
    hidden: tuple[int, ...] = parameter((32, 32), "units of each hidden layer of a member", minimum=1)
    head: str = parameter("squares", "squares: minus the squares of its outputs; linear: its one output", choices=HEADS)
    outputs: int = parameter(8, "outputs of a member that are squared", minimum=1, maximum=1024)
    action_input: bool = parameter(False, "whether the network sees actions, beside the price of effort")
    angle_pairs: bool = parameter(
        True, "whether the network sees sums and differences of two angles: where a point of a chain of two joints is,"
        " is linear in their sines and cosines",
    )  # fmt: skip
    first_effort: float = parameter(0.01, "price of a squared action in half ranges to begin with", minimum=1e-9)


class RewardModel(torch.nn.Module):
    """K members, networks in double precision whose weights are drawn from `seed` alone; the reward is their mean.

    Inputs are normalised by what `states` [N, n] and `actions` [N, m], demonstrations, are like.
    """

    def __init__(self, config: RewardConfig, spec: RobotSpec, states: Array, actions: Array, seed: int) -> None:
        super().__init__()
        self.members = config.members
        self.layout = RewardLayout.of(
            spec, config.action_input, config.head, len(config.hidden), config.members, config.angle_pairs
        )
        random = torch.Generator().manual_seed(seed)
        inputs = np.asarray(self.layout.inputs(states, actions))
        self._fixed = {
            "shift": torch.from_numpy(inputs.mean(axis=0)),
            "scale": torch.from_numpy(np.maximum(inputs.std(axis=0), LEAST_SCALE)),
        }
        self._half_range = torch.tensor(
            0.5 * (np.array(spec.action.upper) - np.array(spec.action.lower)), dtype=torch.float64
        )
        self._learned = torch.nn.ParameterDict()
        width = self.layout.input_size
        for index, units in enumerate(config.hidden):
            self._draw(f"layer{index}", width, units, 1.0, random)
            width = units
        outputs = 1 if config.head == "linear" else config.outputs
        joined = width + self.layout.input_size if config.hidden else width
        self._draw("head", joined, outputs, 0.3, random)
        effort = torch.full((self.members, spec.action.size), math.log(config.first_effort), dtype=torch.float64)
        self._learned["log_effort"] = torch.nn.Parameter(effort)

    def _draw(self, name: str, inputs: int, outputs: int, gain: float, random: torch.Generator) -> None:
        weight = torch.randn(self.members, inputs, outputs, generator=random, dtype=torch.float64)
        self._learned[f"{name}/weight"] = torch.nn.Parameter(weight * (gain / math.sqrt(inputs)))
        self._learned[f"{name}/bias"] = torch.nn.Parameter(torch.zeros(self.members, outputs, dtype=torch.float64))

    def arrays(self) -> dict[str, Tensor]:
        """By the names of the layout; effort is positive, per squared unit of action."""
        learned = {name: value for name, value in self._learned.items() if name != "log_effort"}
        return {**self._fixed, **learned, "effort": self._learned["log_effort"].exp() / self._half_range.square()}

    def rewards(self, state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        """Of every member, with gradients: [K, ...] in double precision for [..., n] and [..., m]."""
        return self.layout.member_rewards(self.arrays(), next_state, action)

    def task(self, version: int = 1) -> LearnedReward:
        """What has been learned so far."""
        arrays = {name: value.detach().numpy().copy() for name, value in self.arrays().items()}
        return LearnedReward(content=encode_reward(self.layout, arrays), version=version)
