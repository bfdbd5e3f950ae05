# SPDX-License-Identifier: Apache-2.0
"""A mixture density network: for teachers who do sometimes this, sometimes that."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from mbrl_core.config import parameter
from mbrl_core.policies.base import POLICIES
from mbrl_core.policies.distribution import ActionDistribution
from mbrl_core.policies.fast import FastMixture
from mbrl_core.policies.mlp import hidden_layers
from mbrl_core.policies.network import LOG_STD_RANGE, NetworkPolicy, NetworkPolicyConfig
from mbrl_core.specs import RobotSpec


@dataclass(frozen=True)
class MixturePolicyConfig(NetworkPolicyConfig):
    """A multilayer perceptron with a mixture of Gaussians as its head."""

    components: int = parameter(5, "Gaussians of the mixture", minimum=1, maximum=100)
    hidden_layers: int = parameter(2, "number of hidden layers", minimum=1, maximum=10)
    hidden_units: int = parameter(64, "units of each hidden layer", minimum=1, maximum=4096)
    squash: bool = parameter(False, "squash samples into the action limits by tanh instead of clipping them")
    covariance: str = parameter(
        "state", "noise of each component: independent, depends on the state", choices=("state",)
    )
    least_std: float = parameter(
        0.03, "least standard deviation of a component, before squashing: what keeps a likelihood from growing without"
        " bound on actions that are met exactly", minimum=0.0025, maximum=7.0,
    )  # fmt: skip


class MixtureDistribution(torch.distributions.Distribution):
    """sum_k w_k N(mean_k, diag(std_k^2)), squashed or not: `components` with batch [..., K], `weights` over K.

    `gaussian` is the heaviest component, before squashing. Which component a sample is of has no derivative: there is
    no `rsample`.
    """

    arg_constraints: dict[str, torch.distributions.constraints.Constraint] = {}
    has_rsample = False

    def __init__(self, weights: Categorical, components: ActionDistribution, heaviest: ActionDistribution) -> None:
        self.weights, self.components = weights, components
        self.gaussian = heaviest.gaussian
        super().__init__(heaviest.batch_shape, heaviest.event_shape, validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 - as torch declares it
        """Actions [*sample_shape, ..., m]."""
        with torch.no_grad():
            chosen = self.weights.sample(sample_shape)[..., None, None]
            values = self.components.sample(sample_shape)
            return values.gather(-2, chosen.expand(*chosen.shape[:-1], values.shape[-1])).squeeze(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density [...] of actions [..., m]."""
        return torch.logsumexp(self.weights.logits + self.components.log_prob(value.unsqueeze(-2)), dim=-1)

    def entropy(self) -> Tensor:
        """Raises NotImplementedError: there is no closed form."""
        raise NotImplementedError("the entropy of a mixture has no closed form; sample -log_prob instead")


@POLICIES.register("mixture", MixturePolicyConfig)
class MixturePolicy(NetworkPolicy):
    """Bishop 1994, "Mixture density networks": weights, means and standard deviations of K Gaussians are outputs of one
    network,

        p(u | x) = sum_k w_k(x) N(u; mean_k(x), diag(std_k(x)^2)),   w = softmax of the network's logits.

    A teacher who passes an obstacle on either side has a mean that runs into it; a mixture keeps both sides apart. What
    the policy does without noise is the mean of the heaviest component (the paper's choice where
    one branch is wanted), to which `gaussian` and `linearise` refer, too; `act` is the whole mixture.
    """

    kind = "mixture"
    config: MixturePolicyConfig

    def __init__(self, config: MixturePolicyConfig, spec: RobotSpec) -> None:
        super().__init__(config, spec)
        count, size = config.components, spec.action.size
        self.output_count = count * (1 + 2 * size)
        layers = hidden_layers(self.observation_size, config.hidden_layers, config.hidden_units)
        last = nn.Linear(config.hidden_units, self.output_count)
        with torch.no_grad():
            last.weight.mul_(0.01)
            last.bias.zero_()
            # The components begin apart, over the middle of the range, or all would learn the same.
            middle = torch.linspace(-0.5, 0.5, count) if count > 1 else torch.zeros(1)
            last.bias[count : count * (1 + size)] = self._unpressed(middle).flatten()
            last.bias[count * (1 + size) :] = math.log(config.initial_std)
        self.layers = nn.Sequential(*layers, last)

    def _unpressed(self, shares: Tensor) -> Tensor:
        """[K, m]: shares [K] of half the action range, as means before squashing."""
        if self.squash:
            return torch.atanh(shares)[:, None].expand(-1, self.spec.action.size)
        return self._centre + shares[:, None] * self._half_range

    def outputs(self, observation: Tensor) -> Tensor:
        """Logits [..., K], then means [..., K m], then log standard deviations [..., K m]."""
        return self.layers(observation)

    def parts(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [..., K], means and standard deviations [..., K, m] before squashing."""
        return self.parts_of(self.outputs(self.observe(state)))

    def parts_of(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of outputs [..., K (1 + 2 m)]."""
        count, size = self.config.components, self.spec.action.size
        logits, means, log_stds = outputs.split((count, count * size, count * size), dim=-1)
        shape = (*outputs.shape[:-1], count, size)
        stds = log_stds.clamp(math.log(self.config.least_std), LOG_STD_RANGE[1]).exp()
        return logits, means.reshape(shape), stds.reshape(shape)

    def gaussian_of(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Of the heaviest component; see `Policy.gaussian`."""
        return _heaviest(*self.parts_of(outputs))

    def act(self, state: Tensor, step: int | Tensor | None = None) -> MixtureDistribution:
        """The mixture; see `Policy.act`."""
        logits, means, stds = self.parts(state)
        limits = (self._lower, self._upper) if self.squash else None
        components = ActionDistribution(means, torch.diag_embed(stds), limits)
        heaviest = ActionDistribution(*_heaviest(logits, means, stds), limits)
        return MixtureDistribution(Categorical(logits=logits), components, heaviest)

    def fast_function(self) -> FastMixture:
        """See `NetworkPolicy.fast_function`."""
        linear = [module for module in self.layers if isinstance(module, nn.Linear)]
        layers = [(module.weight.detach().numpy(), module.bias.detach().numpy()) for module in linear]
        weight, bias = layers.pop()
        count, size = self.config.components, self.spec.action.size
        means = slice(count, count * (1 + size))
        return FastMixture(
            layers,
            (weight[:count], bias[:count]),
            (weight[means].reshape(count, size, -1), bias[means].reshape(count, size)),
        )


def _heaviest(logits: Tensor, means: Tensor, stds: Tensor) -> tuple[Tensor, Tensor]:
    index = logits.argmax(dim=-1, keepdim=True).unsqueeze(-1).expand(*logits.shape[:-1], 1, means.shape[-1])
    return means.gather(-2, index).squeeze(-2), torch.diag_embed(stds.gather(-2, index).squeeze(-2))
