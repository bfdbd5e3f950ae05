# SPDX-License-Identifier: Apache-2.0
"""Action chunks: a network that says the next k actions at once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mbrl_core.config import parameter
from mbrl_core.policies.base import POLICIES
from mbrl_core.policies.fast import FastChunks, FastLayers
from mbrl_core.policies.fast import Observation as FastObservation
from mbrl_core.policies.mlp import hidden_layers
from mbrl_core.policies.network import NetworkPolicy, NetworkPolicyConfig
from mbrl_core.specs import RobotSpec


@dataclass(frozen=True)
class ChunkPolicyConfig(NetworkPolicyConfig):
    """A multilayer perceptron whose outputs are the coming actions."""

    chunk: int = parameter(8, "k, steps whose actions one state gives", minimum=1, maximum=1000)
    ensembling: float = parameter(
        0.01, "m: the action of a step is the mean of all that overlapping chunks have for it, the i-th oldest weighted"
        " by exp(-m i); negative weighs the newest more", minimum=-1000.0, maximum=1000.0,
    )  # fmt: skip
    hidden_layers: int = parameter(2, "number of hidden layers", minimum=1, maximum=10)
    hidden_units: int = parameter(64, "units of each hidden layer", minimum=1, maximum=4096)
    covariance: str = parameter(
        "diagonal", "noise of the actions, the same in all states: diagonal (independent) or full (correlated)",
        choices=("diagonal", "full"),
    )  # fmt: skip


@POLICIES.register("chunks", ChunkPolicyConfig)
class ChunkPolicy(NetworkPolicy):
    """Zhao, Kumar, Levine and Finn 2023, "Learning fine-grained bimanual manipulation with low-cost hardware"
    (arXiv:2304.13705), action chunking and temporal ensembling, with a network of tanh units in place of the paper's
    transformer: one state gives the actions of its step and of the k - 1 after it.

    A teacher's pauses, and what a person does with a delay, are in the chunk and need not be read off a single state;
    errors add up over fewer decisions. `gaussian`, `mode` and `linearise` are about the first row, what one state says
    for its own step; whoever executes chunks averages them (`ChunkMemory`, `PolicyController`).
    """

    kind = "chunks"
    config: ChunkPolicyConfig

    def __init__(self, config: ChunkPolicyConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        self.output_count = config.chunk * spec.action.size
        last = nn.Linear(config.hidden_units, self.output_count)
        with torch.no_grad():
            last.weight.mul_(0.01)
            last.bias.zero_()
        self.layers = nn.Sequential(
            *hidden_layers(self.observation_size, config.hidden_layers, config.hidden_units), last
        )

    def outputs(self, observation: Tensor) -> Tensor:
        """Means [..., k m], row by row."""
        return self.layers(observation)

    def chunk(self, state: Tensor) -> Tensor:
        """Actions [..., k, m] of the steps from that of states [..., n] on, squashed, not clipped."""
        return self.chunk_of(self.outputs(self.observe(state)))

    def chunk_of(self, outputs: Tensor) -> Tensor:
        """The same of outputs [..., k m]."""
        values = outputs.unflatten(-1, (self.config.chunk, self.spec.action.size))
        return self.squashed(values) if self.squash else values

    def fast_function(self) -> FastLayers:
        """The first row; see `NetworkPolicy.fast_function`."""
        return self._layers(self.spec.action.size)

    def fast(self) -> FastChunks:
        """See `Policy.fast`."""
        observation = FastObservation(
            self.spec.state.size, self._linear_index.numpy(), self._angular_index.numpy(),
            self.observation_shift.double().numpy(), self.observation_scale.double().numpy(),
        )  # fmt: skip
        return FastChunks(
            self.spec.action, observation, self.fast_function(), self.squash, self._layers(self.output_count),
            self.config.ensembling,
        )  # fmt: skip

    def _layers(self, outputs: int) -> FastLayers:
        linear = [module for module in self.layers if isinstance(module, nn.Linear)]
        layers = [(module.weight.detach().numpy(), module.bias.detach().numpy()) for module in linear]
        weight, bias = layers.pop()
        return FastLayers([*layers, (weight[:outputs], bias[:outputs])])
