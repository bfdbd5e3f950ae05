# SPDX-License-Identifier: Apache-2.0
"""A neural network."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mbrl_core.config import parameter
from mbrl_core.policies.base import POLICIES
from mbrl_core.policies.fast import FastLayers
from mbrl_core.policies.network import COVARIANCES, NetworkPolicy, NetworkPolicyConfig
from mbrl_core.specs import RobotSpec


@dataclass(frozen=True)
class MlpPolicyConfig(NetworkPolicyConfig):
    """A multilayer perceptron with a Gaussian head."""

    hidden_layers: int = parameter(2, "number of hidden layers", minimum=1, maximum=10)
    hidden_units: int = parameter(64, "units of each hidden layer", minimum=1, maximum=4096)
    covariance: str = parameter(
        "state",
        "noise of the actions: state (independent, depends on the state), diagonal (independent, the same in all"
        " states) or full (correlated, the same in all states)",
        choices=COVARIANCES,
    )


@POLICIES.register("mlp", MlpPolicyConfig)
class MlpPolicy(NetworkPolicy):
    """Network of tanh units. The mean starts near zero in every state."""

    kind = "mlp"
    config: MlpPolicyConfig

    def __init__(self, config: MlpPolicyConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        layers = hidden_layers(self.observation_size, config.hidden_layers, config.hidden_units)
        last = nn.Linear(config.hidden_units, self.output_count)
        with torch.no_grad():
            last.weight.mul_(0.01)
            last.bias[: spec.action.size] = 0.0
            last.bias[spec.action.size :] = math.log(config.initial_std)
        self.layers = nn.Sequential(*layers, last)

    def outputs(self, observation: Tensor) -> Tensor:
        """See `NetworkPolicy.outputs`."""
        return self.layers(observation)

    def fast_function(self) -> FastLayers:
        """See `NetworkPolicy.fast_function`."""
        linear = [module for module in self.layers if isinstance(module, nn.Linear)]
        layers = [(module.weight.detach().numpy(), module.bias.detach().numpy()) for module in linear]
        weight, bias = layers.pop()
        size = self.spec.action.size
        return FastLayers([*layers, (weight[:size], bias[:size])])


def hidden_layers(inputs: int, layers: int, units: int) -> list[nn.Module]:
    """Affine layers of `units` outputs, each followed by tanh, with newly drawn weights."""
    sizes = [inputs] + [units] * layers
    pairs = [[nn.Linear(before, after), nn.Tanh()] for before, after in itertools.pairwise(sizes)]
    return [module for pair in pairs for module in pair]
