# SPDX-License-Identifier: Apache-2.0
"""An affine function of the observation."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mbrl_core.config import parameter
from mbrl_core.policies.base import POLICIES
from mbrl_core.policies.fast import FastLayers
from mbrl_core.policies.network import NetworkPolicy, NetworkPolicyConfig
from mbrl_core.specs import RobotSpec


@dataclass(frozen=True)
class LinearPolicyConfig(NetworkPolicyConfig):
    """An affine mean."""

    squash: bool = parameter(False, "squash samples into the action limits by tanh instead of clipping them")


@POLICIES.register("linear", LinearPolicyConfig)
class LinearPolicy(NetworkPolicy):
    """u = K o + k + noise; starts at zero."""

    kind = "linear"
    config: LinearPolicyConfig

    def __init__(self, config: LinearPolicyConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        self.layer = nn.Linear(self.observation_size, self.output_count)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        with torch.no_grad():
            self.layer.bias[spec.action.size :] = math.log(config.initial_std)

    def outputs(self, observation: Tensor) -> Tensor:
        """See `NetworkPolicy.outputs`."""
        return self.layer(observation)

    def fast_function(self) -> FastLayers:
        """See `NetworkPolicy.fast_function`."""
        size = self.spec.action.size
        return FastLayers([(self.layer.weight.detach().numpy()[:size], self.layer.bias.detach().numpy()[:size])])
