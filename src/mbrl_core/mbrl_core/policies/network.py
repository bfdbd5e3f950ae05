# SPDX-License-Identifier: Apache-2.0
"""What policies that are functions of the observed state have in common: observations, noise, squashing."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.policies.base import Policy, PolicyError
from mbrl_core.policies.fast import FastFunction, FastNetwork, FastPolicy
from mbrl_core.policies.fast import Observation as FastObservation
from mbrl_core.specs import RobotSpec

LOG_STD_RANGE = (-6.0, 2.0)
COVARIANCES = ("state", "diagonal", "full")
LEAST_SCALE = 1e-3  # of a linear state variable, SI units: one that never varies in the data is not blown up


@dataclass(frozen=True)
class NetworkPolicyConfig:
    """Parameters of every policy that is a function of the observed state."""

    observed: tuple[str, ...] = parameter(
        (), "names of the state variables that the policy sees; empty for all of them"
    )
    squash: bool = parameter(True, "squash samples into the action limits by tanh instead of clipping them")
    covariance: str = parameter(
        "diagonal",
        "noise of the actions: state (independent, depends on the state), diagonal (independent, the same in all"
        " states) or full (correlated, the same in all states)",
        choices=COVARIANCES,
    )
    initial_std: float = parameter(
        0.5, "standard deviation at the start, before squashing", minimum=0.0025, maximum=7.0
    )


class NetworkPolicy(Policy):
    """Mean, and where asked for log standard deviation, as a function of the observation.

    Angles enter as sine and cosine; everything else as (value - observation_shift) / observation_scale, two buffers
    [observation_size] that a trainer sets from data (`normalise`). Standard deviations are kept within
    exp(LOG_STD_RANGE) before squashing.
    """

    config: NetworkPolicyConfig

    def __init__(self, config: NetworkPolicyConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        chosen = np.array([name in config.observed or not config.observed for name in spec.state.names])
        unknown = [name for name in config.observed if name not in spec.state.names]
        if unknown:
            raise ConfigurationError(
                f"parameter 'observed': got {unknown[0]!r}, expected some of {', '.join(spec.state.names)}"
            )
        linear, angular = (np.flatnonzero(chosen & mask) for mask in (~spec.state.angular, spec.state.angular))
        self.register_buffer("_linear_index", torch.from_numpy(linear), persistent=False)
        self.register_buffer("_angular_index", torch.from_numpy(angular), persistent=False)
        self.observation_size = len(linear) + 2 * len(angular)
        self.register_buffer("observation_shift", torch.zeros(self.observation_size))
        self.register_buffer("observation_scale", torch.ones(self.observation_size))
        size = spec.action.size
        self.output_count = 2 * size if config.covariance == "state" else size
        if config.covariance != "state":
            self.log_std = nn.Parameter(torch.full((size,), math.log(config.initial_std)))
        if config.covariance == "full":
            # L = diag(std) (1 + mixing), mixing strictly lower triangular, row by row.
            self.mixing = nn.Parameter(torch.zeros(size * (size - 1) // 2))

    @abstractmethod
    def outputs(self, observation: Tensor) -> Tensor:
        """Outputs [..., output_count] of observations [..., observation_size]: means, then log standard deviations
        when the noise depends on the state.
        """

    @abstractmethod
    def fast_function(self) -> FastFunction:
        """The means alone, as a function of one observation."""

    def observe(self, state: Tensor) -> Tensor:
        """state [..., n] -> [..., observation_size]: linear variables, then sines, then cosines."""
        angles = state.index_select(-1, self._angular_index)
        linear = state.index_select(-1, self._linear_index)
        values = torch.cat([linear, torch.sin(angles), torch.cos(angles)], dim=-1)
        return (values - self.observation_shift) / self.observation_scale

    def normalise(self, states: Tensor) -> None:
        """Takes shift and scale of the linear observations from states [N, n]: mean and standard deviation.

        What the policy does changes by it: do it before training. Sines and cosines stay as they are. Raises
        PolicyError when there are fewer than two states, or one is not finite.
        """
        if len(states) < 2 or not bool(torch.isfinite(states).all()):
            raise PolicyError(f"states to normalise by: got {len(states)}, expected at least 2, all finite")
        linear = states.index_select(-1, self._linear_index).double()
        count = linear.shape[-1]
        with torch.no_grad():
            self.observation_shift[:count] = linear.mean(dim=0).float()
            self.observation_scale[:count] = linear.std(dim=0).clamp_min(LEAST_SCALE).float()

    def gaussian(self, state: Tensor, step: int | Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Policy.gaussian`."""
        return self.gaussian_of(self.outputs(self.observe(state)))

    def gaussian_of(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The same of outputs [..., output_count]."""
        mean = outputs[..., : self.spec.action.size]
        if self.config.covariance == "state":
            std = outputs[..., self.spec.action.size :].clamp(*LOG_STD_RANGE).exp()
            return mean, torch.diag_embed(std)
        factor = self.log_std.clamp(*LOG_STD_RANGE).exp().diag()
        if self.config.covariance == "full":
            factor = factor @ self._mixing_matrix()
        return mean, factor.expand(*mean.shape, -1)

    def noise_parameters(self) -> list[nn.Parameter]:
        """Those by which the noise alone can be changed: its own, or the last layer, whose other rows are the mean's.

        A trainer that fits the noise to residuals takes these, since what hidden layers find would serve the noise at
        the expense of the mean.
        """
        if self.config.covariance == "state":
            return list([module for module in self.modules() if isinstance(module, nn.Linear)][-1].parameters())
        return [self.log_std, self.mixing] if self.config.covariance == "full" else [self.log_std]

    def _mixing_matrix(self) -> Tensor:
        size = self.spec.action.size
        rows, columns = torch.tril_indices(size, size, -1)
        return torch.eye(size, dtype=self.mixing.dtype).index_put((rows, columns), self.mixing)

    def set_covariance(self, covariance: Tensor) -> None:
        """Sets the noise to a covariance [m, m], before squashing; the diagonal kind keeps its diagonal. Standard
        deviations given the actions before count as within exp(LOG_STD_RANGE).

        Raises PolicyError when the noise depends on the state, or the matrix is not positive definite.
        """
        if self.config.covariance == "state":
            raise PolicyError("covariance: this policy's noise depends on the state, expected 'diagonal' or 'full'")
        matrix = covariance.detach().double()
        size = self.spec.action.size
        if matrix.shape != (size, size) or not bool(torch.isfinite(matrix).all()):
            raise PolicyError(f"covariance: got {matrix.tolist()}, expected finite numbers [{size}, {size}]")
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if bool(failed):
            raise PolicyError(f"covariance: got {matrix.tolist()}, expected a positive definite matrix")
        with torch.no_grad():
            if self.config.covariance == "diagonal":
                self.log_std.copy_(0.5 * matrix.diagonal().log())
                return
            std = factor.diagonal()
            self.log_std.copy_(std.log())
            rows, columns = torch.tril_indices(size, size, -1)
            self.mixing.copy_((factor / std.unsqueeze(1))[rows, columns])

    def fast(self) -> FastPolicy:
        """See `Policy.fast`."""
        observation = FastObservation(
            self.spec.state.size, self._linear_index.numpy(), self._angular_index.numpy(),
            self.observation_shift.double().numpy(), self.observation_scale.double().numpy(),
        )  # fmt: skip
        return FastNetwork(self.spec.action, observation, self.fast_function(), self.squash)
