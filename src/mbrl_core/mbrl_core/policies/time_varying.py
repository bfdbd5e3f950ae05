# SPDX-License-Identifier: Apache-2.0
"""A linear feedback law of its own for each step: what trajectory optimisation gives."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mbrl_core.config import parameter
from mbrl_core.policies.base import POLICIES, Policy, PolicyError
from mbrl_core.policies.distribution import ActionDistribution
from mbrl_core.policies.fast import FastTimeVarying
from mbrl_core.specs import Array, RobotSpec

LEAST_STD = 1e-6  # given the actions before it, relative to the largest: below it there is no density to speak of
LARGEST_ASYMMETRY = 1e-6  # of a covariance, relative to its largest entry


@dataclass(frozen=True)
class TimeVaryingLinearConfig:
    """Feedback along a nominal trajectory."""

    horizon: int = parameter(200, "steps of an episode that there is a feedback law for", minimum=1, maximum=100_000)
    initial_std: float = parameter(
        0.5, "standard deviation at the start, normalised units; 0 is a policy without noise", minimum=0.0, maximum=7.0
    )


@POLICIES.register("time_varying_linear", TimeVaryingLinearConfig)
class TimeVaryingLinearPolicy(Policy):
    """u_t ~ N(û_t + K_t (x - x̂_t), Σ_t), angles of the difference wrapped (Levine and Abbeel 2014, section 3).

    actions û [H, m], gains K [H, m, n], states x̂ [H, n], scale_tril [H, m, m] (a lower-triangular root of Σ).
    A Σ_t of zero is an open-loop or feedback law without noise: it has a mode and no density.
    """

    kind = "time_varying_linear"
    config: TimeVaryingLinearConfig

    def __init__(self, config: TimeVaryingLinearConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        steps, states, actions = config.horizon, spec.state.size, spec.action.size
        self.actions = nn.Parameter(torch.zeros(steps, actions))
        self.gains = nn.Parameter(torch.zeros(steps, actions, states))
        self.register_buffer("states", torch.zeros(steps, states))
        self.register_buffer("scale_tril", (config.initial_std * torch.eye(actions)).repeat(steps, 1, 1))
        self.register_buffer("_angular", torch.from_numpy(spec.state.angular), persistent=False)

    @classmethod
    def from_arrays(
        cls, spec: RobotSpec, actions: Array, gains: Array, states: Array, covariances: Array | None = None
    ) -> "TimeVaryingLinearPolicy":
        """The policy of arrays: actions [H, m], gains [H, m, n], states [H, n], covariances [H, m, m] (none: no noise).

        A law written u_t = K_t x_t + k_t has actions K_t x̂_t + k_t about states x̂_t near those that it meets; angles of
        x - x̂ are wrapped, so that x̂ may be a trajectory whose angles go on past pi.

        Raises PolicyError on a wrong shape, a number that is not finite, or a covariance that is not symmetric and
        positive semi-definite.
        """
        steps, n, m = len(actions), spec.state.size, spec.action.size
        if covariances is None:
            covariances = np.zeros((steps, m, m))
        given = {"actions": actions, "gains": gains, "states": states, "covariances": covariances}
        shapes = {"actions": (steps, m), "gains": (steps, m, n), "states": (steps, n), "covariances": (steps, m, m)}
        values = {name: np.asarray(array, dtype=np.float64) for name, array in given.items()}
        for name, shape in shapes.items():
            if steps < 1 or values[name].shape != shape:
                expected = "[H >= 1, ...]" if steps < 1 else list(shape)
                raise PolicyError(f"controller {name}: got shape {list(values[name].shape)}, expected {expected}")
            if not np.isfinite(values[name]).all():
                step = int(np.argwhere(~np.isfinite(values[name]))[0][0])
                raise PolicyError(f"controller {name}: step {step} has numbers that are not finite")
        policy = cls(TimeVaryingLinearConfig(horizon=steps), spec)
        with torch.no_grad():
            for name in ("actions", "gains", "states"):
                getattr(policy, name).copy_(torch.from_numpy(values[name]))
            policy.scale_tril.copy_(torch.from_numpy(triangular_roots(values["covariances"])))
        return policy

    @property
    def horizon(self) -> int:
        """See `Policy.horizon`."""
        return self.config.horizon

    def gaussian(self, state: Tensor, step: int | Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Policy.gaussian`. Raises PolicyError when `step` is missing or beyond the horizon."""
        index = self._index(step)
        error = state - self.states[index]
        turns = torch.floor((error + torch.pi) / (2.0 * torch.pi)).detach()
        error = torch.where(self._angular, error - 2.0 * torch.pi * turns, error)
        mean = self.actions[index] + (self.gains[index] @ error.unsqueeze(-1)).squeeze(-1)
        return mean, self.scale_tril[index].expand(*mean.shape, -1)

    def act(self, state: Tensor, step: int | Tensor | None = None) -> ActionDistribution:
        """See `Policy.act`."""
        std = self.scale_tril[self._index(step)].diagonal(dim1=-2, dim2=-1)
        if bool((std <= LEAST_STD * std.amax(dim=-1, keepdim=True)).any()):
            raise PolicyError(f"policy {self.kind!r}: no density at step {step}, where the noise is zero; use `mode`")
        return super().act(state, step)

    def _index(self, step: int | Tensor | None) -> Tensor:
        if step is None:
            raise PolicyError(f"policy {self.kind!r} depends on time: expected a step, got none")
        index = torch.as_tensor(step)
        if bool(((index < 0) | (index >= self.horizon)).any()):
            raise PolicyError(f"policy {self.kind!r}: got step {step}, expected 0 to {self.horizon - 1}")
        return index

    def fast(self) -> FastTimeVarying:
        """See `Policy.fast`."""
        return FastTimeVarying(
            self.spec.action, self.spec.state.angular, self.actions.detach().double().numpy(),
            self.gains.detach().double().numpy(), self.states.double().numpy(),
        )  # fmt: skip


def triangular_roots(covariances: Array) -> Array:
    """Lower-triangular L [H, m, m] with L Lᵀ the symmetric, positive semi-definite covariances [H, m, m].

    Raises PolicyError that names the first step whose covariance is not.
    """
    size = np.abs(covariances).max(axis=(1, 2))
    asymmetry = np.abs(covariances - covariances.swapaxes(1, 2)).max(axis=(1, 2))
    values, vectors = np.linalg.eigh(0.5 * (covariances + covariances.swapaxes(1, 2)))
    bad = (asymmetry > LARGEST_ASYMMETRY * size) | (values[:, 0] < -LARGEST_ASYMMETRY * size)
    if bad.any():
        step = int(np.flatnonzero(bad)[0])
        raise PolicyError(
            f"controller covariances: step {step} has {covariances[step].tolist()},"
            " expected symmetric and positive semi-definite"
        )
    # R of a QR decomposition of any root is one, also where Cholesky's would stop at a zero.
    roots = np.sqrt(np.maximum(values, 0.0))[:, :, None] * vectors.swapaxes(1, 2)
    upper = np.linalg.qr(roots, mode="r")
    signs = np.where(np.diagonal(upper, axis1=1, axis2=2) < 0.0, -1.0, 1.0)
    return (signs[:, :, None] * upper).swapaxes(1, 2)
