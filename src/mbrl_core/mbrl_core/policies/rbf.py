# SPDX-License-Identifier: Apache-2.0
"""Radial basis functions."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mbrl_core.config import parameter
from mbrl_core.policies.base import POLICIES, PolicyError
from mbrl_core.policies.fast import FastRadial
from mbrl_core.policies.network import NetworkPolicy, NetworkPolicyConfig
from mbrl_core.specs import RobotSpec


@dataclass(frozen=True)
class RbfPolicyConfig(NetworkPolicyConfig):
    """A weighted sum of Gaussian bumps."""

    basis_functions: int = parameter(50, "number of basis functions", minimum=1, maximum=10_000)
    length_scale: float = parameter(
        1.0, "length scale of each observation at the start, times sqrt(observations)", minimum=1e-3, maximum=1e3
    )


@POLICIES.register("rbf", RbfPolicyConfig)
class RbfPolicy(NetworkPolicy):
    """u = Σ_i w_i exp(-½ ‖(o - c_i) / ℓ‖²) + b + noise (Deisenroth and Rasmussen 2011, PILCO, section 2.1).

    Centres c [count, observation_size] start as draws of a standard normal, so normalise first, or place them
    (`place_centres`). Length scales ℓ [observation_size] are shared by all.
    """

    kind = "rbf"
    config: RbfPolicyConfig

    def __init__(self, config: RbfPolicyConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        self.centres = nn.Parameter(torch.randn(config.basis_functions, self.observation_size))
        length = config.length_scale * math.sqrt(self.observation_size)
        self.log_length_scale = nn.Parameter(torch.full((self.observation_size,), math.log(length)))
        self.layer = nn.Linear(config.basis_functions, self.output_count)
        with torch.no_grad():
            self.layer.weight.mul_(0.01)
            self.layer.bias[: spec.action.size] = 0.0
            self.layer.bias[spec.action.size :] = math.log(config.initial_std)

    def outputs(self, observation: Tensor) -> Tensor:
        """See `NetworkPolicy.outputs`."""
        distance = (observation.unsqueeze(-2) - self.centres) * torch.exp(-self.log_length_scale)
        return self.layer(torch.exp(-0.5 * distance.square().sum(dim=-1)))

    def place_centres(self, states: Tensor) -> None:
        """Spreads the centres over states [N, n]: the one nearest the mean, then always the one furthest from all
        chosen so far (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance").

        Raises PolicyError when there are fewer states than centres, or one is not finite.
        """
        count = self.config.basis_functions
        if len(states) < count or not bool(torch.isfinite(states).all()):
            raise PolicyError(f"states to place centres at: got {len(states)}, expected at least {count}, all finite")
        with torch.no_grad():
            points = self.observe(states)
            scaled = points * torch.exp(-self.log_length_scale)
            chosen = [int((scaled - scaled.mean(dim=0)).square().sum(dim=1).argmin())]
            nearest = (scaled - scaled[chosen[0]]).square().sum(dim=1)
            for _ in range(count - 1):
                chosen.append(int(nearest.argmax()))
                nearest = torch.minimum(nearest, (scaled - scaled[chosen[-1]]).square().sum(dim=1))
            self.centres.copy_(points[chosen])

    def fast_function(self) -> FastRadial:
        """See `NetworkPolicy.fast_function`."""
        size = self.spec.action.size
        return FastRadial(
            self.centres.detach().numpy(), torch.exp(-self.log_length_scale).detach().numpy(),
            self.layer.weight.detach().numpy()[:size], self.layer.bias.detach().numpy()[:size],
        )  # fmt: skip
