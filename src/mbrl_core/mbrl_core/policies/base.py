# SPDX-License-Identifier: Apache-2.0
"""The interface of all policies."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.policies.distribution import ActionDistribution, unsquashed
from mbrl_core.policies.fast import FastPolicy
from mbrl_core.registry import Registry
from mbrl_core.specs import Array, RobotSpec

POLICIES: Registry["Policy"] = Registry(
    "policy",
    (
        "mbrl_core.policies.mlp",
        "mbrl_core.policies.linear",
        "mbrl_core.policies.rbf",
        "mbrl_core.policies.time_varying",
        "mbrl_core.policies.mixture",
        "mbrl_core.policies.chunks",
    ),
)


class PolicyError(CheckpointError):
    """A policy's numbers do not fit its kind, its robot or what is asked of it; the text says what came instead."""


@dataclass(frozen=True)
class LinearGaussian:
    """A policy near given states: u = action + gain (x - state) + noise, before the limits act.

    action [..., m], gain [..., m, n], covariance [..., m, m] of the noise; x - state with angles wrapped.
    """

    action: Tensor
    gain: Tensor
    covariance: Tensor


class Policy(nn.Module, ABC):
    """A stochastic policy of one robot, batched over any leading shape.

    States are whole (SI units, [..., n]): what of them a policy sees, and in which scale, is its own affair. Actions
    are in normalised units, [..., m]. `step` counts from the first time step of an episode; kinds that depend on time
    (`horizon` is not None) need it, as a number or as integers [...], the others ignore it.
    """

    kind: str

    def __init__(self, config: Any, spec: RobotSpec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.register_buffer("_lower", torch.tensor(spec.action.lower, dtype=torch.float32), persistent=False)
        self.register_buffer("_upper", torch.tensor(spec.action.upper, dtype=torch.float32), persistent=False)
        self.register_buffer("_centre", 0.5 * (self._upper + self._lower), persistent=False)
        self.register_buffer("_half_range", 0.5 * (self._upper - self._lower), persistent=False)

    @property
    def horizon(self) -> int | None:
        """Steps that the policy is defined for; None for a policy that does not depend on time."""
        return None

    @property
    def squash(self) -> bool:
        """Whether tanh presses samples into the limits; without it they may be beyond, and `mode` is clipped."""
        return bool(getattr(self.config, "squash", False))

    @abstractmethod
    def gaussian(self, state: Tensor, step: int | Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean [..., m] and lower-triangular factor [..., m, m] of the covariance, before squashing or clipping."""

    def act(self, state: Tensor, step: int | Tensor | None = None) -> ActionDistribution:
        """Distribution over actions [..., m] in states [..., n].

        Raises PolicyError on a `step` that the policy has no action for, or has one without noise.
        """
        mean, scale_tril = self.gaussian(state, step)
        return ActionDistribution(mean, scale_tril, (self._lower, self._upper) if self.squash else None)

    def mode(self, state: Tensor, step: int | Tensor | None = None) -> Tensor:
        """The action without noise [..., m], within the limits."""
        mean, _ = self.gaussian(state, step)
        return self.squashed(mean) if self.squash else torch.minimum(torch.maximum(mean, self._lower), self._upper)

    def squashed(self, values: Tensor) -> Tensor:
        """Values [..., m] pressed into the limits by tanh."""
        return torch.addcmul(self._centre, self._half_range, torch.tanh(values))

    def unsquashed(self, actions: Tensor) -> Tensor:
        """The reverse; actions [..., m] at or beyond a limit count as just within."""
        return unsquashed(actions, self._centre, self._half_range)

    def linearise(self, state: Tensor, step: int | Tensor | None = None) -> LinearGaussian:
        """The policy to first order around states [..., n], as the local methods need it; without gradients.

        Squashing counts to first order, in the noise as well; clipping does not.
        """
        shape = state.shape[:-1]
        with torch.enable_grad():
            point = state.detach().clone().requires_grad_(True)
            mean, scale_tril = self.gaussian(point, step)
            action = self.squashed(mean) if self.squash else mean
            rows = [
                torch.autograd.grad(action[..., index].sum(), point, retain_graph=True, allow_unused=True)[0]
                for index in range(action.shape[-1])
            ]
        gain = torch.stack([torch.zeros_like(point) if row is None else row for row in rows], dim=-2)
        scale_tril = scale_tril.detach()
        if self.squash:
            scale_tril = (self._half_range * (1.0 - torch.tanh(mean.detach()).square())).unsqueeze(-1) * scale_tril
        covariance = (scale_tril @ scale_tril.mT).expand(*shape, -1, -1)
        return LinearGaussian(action.detach(), gain, covariance)

    def fast(self) -> FastPolicy:
        """A copy of the policy as it is now for one state at a time, without noise and without torch's overhead."""
        return _FastModule(self)


class _FastModule(FastPolicy):
    """Any policy, through torch."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.spec.action, policy.horizon)
        self._policy = copy.deepcopy(policy)

    def linearised(self, state: Array, step: int) -> tuple[Array, Array]:
        local = self._policy.linearise(torch.from_numpy(state).float(), step)
        return local.action.double().numpy(), local.gain.double().numpy()

    def action(self, state: Array, step: int) -> Array:
        with torch.inference_mode():
            mode = self._policy.mode(torch.from_numpy(state).float(), step)
        return self.clipped(mode.double().numpy())


def make_policy(kind: str, mapping: dict[str, Any], spec: RobotSpec, seed: int) -> Policy:
    """A new policy with weights drawn from `seed`. Raises ConfigurationError."""
    config = POLICIES.configure(kind, mapping)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return POLICIES.get(kind).implementation(config, spec)
