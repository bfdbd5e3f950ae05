# SPDX-License-Identifier: Apache-2.0
"""Policy networks: from a state to a distribution over normalised actions. The only module here that needs torch."""

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Distribution,
    Independent,
    Normal,
    TanhTransform,
    TransformedDistribution,
)

from mbrl_core.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from mbrl_core.config import parameter, to_mapping
from mbrl_core.registry import Registry
from mbrl_core.specs import RobotSpec

POLICIES: Registry["Policy"] = Registry("policy")

LOG_STD_RANGE = (-6.0, 2.0)


class Policy(nn.Module, ABC):
    """A stochastic policy of one robot.

    Angles enter as sine and cosine; everything else divided by `observation_scale` [observation_size], a buffer that a
    trainer sets from data. Actions are in normalised units.
    """

    kind: str

    def __init__(self, config: Any, spec: RobotSpec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        angular = torch.from_numpy(spec.state.angular)
        self.register_buffer("_linear_index", (~angular).nonzero()[:, 0], persistent=False)
        self.register_buffer("_angular_index", angular.nonzero()[:, 0], persistent=False)
        self.observation_size = spec.state.size + int(angular.sum())
        self.register_buffer("observation_scale", torch.ones(self.observation_size))
        self.register_buffer("_lower", torch.tensor(spec.action.lower, dtype=torch.float32), persistent=False)
        self.register_buffer("_upper", torch.tensor(spec.action.upper, dtype=torch.float32), persistent=False)

    def observe(self, state: Tensor) -> Tensor:
        """state [..., state_size] -> [..., observation_size]: linear variables, then sines, then cosines."""
        angles = state.index_select(-1, self._angular_index)
        linear = state.index_select(-1, self._linear_index)
        values = torch.cat([linear, torch.sin(angles), torch.cos(angles)], dim=-1)
        return values / self.observation_scale

    @abstractmethod
    def head(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation [..., action_size] before any squashing."""

    def act(self, state: Tensor) -> Distribution:
        """Distribution over actions [..., action_size] of states [..., state_size]."""
        mean, log_std = self.head(self.observe(state))
        normal = Normal(mean, log_std.clamp(*LOG_STD_RANGE).exp())
        if not self.config.squash:
            return Independent(normal, 1)
        half_range = (self._upper - self._lower) / 2.0
        to_limits = AffineTransform((self._upper + self._lower) / 2.0, half_range)
        return Independent(TransformedDistribution(normal, [TanhTransform(cache_size=1), to_limits]), 1)

    def mode(self, state: Tensor) -> Tensor:
        """The action without noise [..., action_size], within the limits."""
        mean, _ = self.head(self.observe(state))
        if self.config.squash:
            return (self._upper + self._lower) / 2.0 + (self._upper - self._lower) / 2.0 * torch.tanh(mean)
        return torch.minimum(torch.maximum(mean, self._lower), self._upper)


@dataclass(frozen=True)
class MlpPolicyConfig:
    """A multilayer perceptron with a Gaussian head."""

    hidden_layers: int = parameter(2, "Number of hidden layers", minimum=1, maximum=10)
    hidden_units: int = parameter(64, "Units of each hidden layer", minimum=1, maximum=4096)
    squash: bool = parameter(True, "Squash samples into the action limits by tanh instead of clipping them")
    initial_std: float = parameter(
        0.5, "Standard deviation at the start, before squashing", minimum=0.0025, maximum=7.0
    )


@POLICIES.register("mlp", MlpPolicyConfig)
class MlpPolicy(Policy):
    """Tanh network; mean and log standard deviation both depend on the state.

    The squashed Gaussian is that of Haarnoja et al. 2018 (arXiv:1801.01290), appendix C.
    """

    kind = "mlp"

    def __init__(self, config: MlpPolicyConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        sizes = [self.observation_size] + [config.hidden_units] * config.hidden_layers
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        last = nn.Linear(sizes[-1], 2 * spec.action.size)
        with torch.no_grad():
            last.weight.mul_(0.01)
            last.bias[: spec.action.size] = 0.0
            last.bias[spec.action.size :] = math.log(config.initial_std)
        self.layers = nn.Sequential(*layers, last)

    def head(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """See `Policy.head`."""
        mean, log_std = self.layers(observation).chunk(2, dim=-1)
        return mean, log_std


@dataclass(frozen=True)
class LinearPolicyConfig:
    """An affine mean with a standard deviation that does not depend on the state."""

    squash: bool = parameter(False, "Squash samples into the action limits by tanh instead of clipping them")
    initial_std: float = parameter(
        0.5, "Standard deviation at the start, before squashing", minimum=0.0025, maximum=7.0
    )


@POLICIES.register("linear", LinearPolicyConfig)
class LinearPolicy(Policy):
    """u = K o + k + noise."""

    kind = "linear"

    def __init__(self, config: LinearPolicyConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        self.layer = nn.Linear(self.observation_size, spec.action.size)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.log_std = nn.Parameter(torch.full((spec.action.size,), math.log(config.initial_std)))

    def head(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """See `Policy.head`."""
        mean = self.layer(observation)
        return mean, self.log_std.expand_as(mean)


def make_policy(kind: str, mapping: dict[str, Any], spec: RobotSpec, seed: int) -> Policy:
    """A new policy with weights drawn from `seed`. Raises ConfigurationError."""
    config = POLICIES.configure(kind, mapping)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return POLICIES.get(kind).implementation(config, spec)


def save_policy(path: str | Path, policy: Policy) -> None:
    """Writes a checkpoint, atomically. Raises OSError."""
    arrays = {name: value.detach().numpy() for name, value in policy.state_dict().items()}
    information = {
        "role": "policy",
        "kind": policy.kind,
        "configuration": to_mapping(policy.config),
        "interface_hash": policy.spec.interface_hash,
    }
    save_checkpoint(path, arrays, information)


def load_policy(path: str | Path, spec: RobotSpec) -> Policy:
    """Reads a policy of the robot `spec`. Raises CheckpointError when it is of another robot, kind or shape."""
    arrays, information = load_checkpoint(path)
    if information.get("role") != "policy":
        raise CheckpointError(f"{path}: got a checkpoint of {information.get('role')!r}, expected 'policy'")
    if information["interface_hash"] != spec.interface_hash:
        raise CheckpointError(
            f"{path}: policy of interface {information['interface_hash'][:12]!r}, expected {spec.interface_hash[:12]!r}"
            f" of robot {spec.name!r}"
        )
    policy = make_policy(information["kind"], information["configuration"], spec, seed=0)
    try:
        policy.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit a {policy.kind!r} policy: {error}") from None
    return policy
