# SPDX-License-Identifier: Apache-2.0
"""pytorch-mppi and pytorch-icem behind the interface of this project's planners, on dynamics given stepwise.

Both run in the environment of `_baselines`; their own packages are imported only when one is built.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import Task

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Next states [K, state_size] of states [K, state_size] and actions [K, action_size] within the limits."""

KINDS = ("pytorch_mppi", "pytorch_icem")
PRESETS: dict[str, dict[str, Any]] = {
    # What the packages default to, or where they have no default, what this project's planners start from.
    "pytorch_mppi": {"noise_std": 0.5, "temperature": 1.0, "iterations": 1},
    "pytorch_icem": {
        "initial_std": 0.5, "noise_exponent": 3.0, "momentum": 0.05, "elite_share": 0.1, "kept_elites": 0.5,
        "iterations": 3,
    },
}  # fmt: skip


@dataclass
class BaselinePlan:
    """What is executed: actions [1, action_size]."""

    actions: Array


class BaselinePlanner:
    """A planner of another project; `values` as PRESETS, with `horizon` and `population_size`."""

    def __init__(self, kind: str, values: Mapping[str, Any], spec: RobotSpec, step: Step, task: Task, seed: int):
        self.values, self.spec, self.task, self.seed = values, spec, task, seed
        self._step = step
        self._lower = torch.tensor(spec.action.lower, dtype=torch.float32)
        self._upper = torch.tensor(spec.action.upper, dtype=torch.float32)
        self._half_range = 0.5 * (self._upper - self._lower)
        if bool((self._lower != -self._upper).any()):
            raise ValueError(f"robot {spec.name!r}: expected limits around zero")
        torch.manual_seed(stream_seed(seed, 0, 0, kind))
        np.random.seed(stream_seed(seed, 0, 0, kind) % 2**32)
        self._controller = self._mppi() if kind == "pytorch_mppi" else self._icem()
        self._command = self._command_mppi if kind == "pytorch_mppi" else self._controller.command

    def plan(self, state: Array, step_key: tuple[int, int] = (0, 0)) -> BaselinePlan:
        """Plans from `state` [state_size]."""
        with torch.inference_mode():
            action = self._command(torch.as_tensor(state, dtype=torch.float32))
        return BaselinePlan(action.clamp(self._lower, self._upper).double().numpy()[None])

    def _mppi(self) -> Any:
        from pytorch_mppi import MPPI

        std = self.values["noise_std"] * self._half_range
        controller = MPPI(
            self._step,
            lambda states, actions: -self.task.reward(states, actions, states),
            self.spec.state.size,
            torch.diag(std * std),
            num_samples=self.values["population_size"],
            horizon=self.values["horizon"],
            lambda_=self.values["temperature"],
            u_min=self._lower,
            u_max=self._upper,
            U_init=torch.zeros(self.values["horizon"], self.spec.action.size),
        )
        return controller

    def _command_mppi(self, state: torch.Tensor) -> torch.Tensor:
        for index in range(self.values["iterations"]):
            action = self._controller.command(state, shift_nominal_trajectory=index == 0)
        return action

    def _icem(self) -> Any:
        from pytorch_icem import iCEM

        # Its check asks for as many dimensions of sigma as there are actions; leading ones do no harm.
        size = self.spec.action.size
        sigma = (self.values["initial_std"] * self._half_range).view((1,) * (size - 1) + (size,))
        warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
        return iCEM(
            lambda states, actions: self._step(states, actions.clamp(self._lower, self._upper)),
            self._cost,
            self.spec.state.size,
            size,
            sigma=sigma,
            num_samples=self.values["population_size"],
            num_elites=self.values["elites"],
            horizon=self.values["horizon"],
            elites_keep_fraction=self.values["kept_elites"],
            alpha=self.values["momentum"],
            noise_beta=self.values["noise_exponent"],
            warmup_iters=self.values["iterations"],
            online_iters=self.values["iterations"],
        )

    def _cost(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """[N] of states [N, H, state_size] that the actions [N, H, action_size] lead to."""
        limited = actions.clamp(self._lower, self._upper)
        cost: torch.Tensor = -self.task.reward(states, limited, states).sum(dim=-1)
        return cost
