# SPDX-License-Identifier: Apache-2.0
"""Gaussian actions, squashed into their limits or not."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, constraints, kl_divergence, register_kl
from torch.nn.functional import softplus

# Share of half the range that a given action stays away from its limits before the squashing is undone: actions at the
# limits, which bang-bang controllers send, have no finite inverse.
SQUASH_MARGIN = 1e-6


def unsquashed(actions: Tensor, centre: Tensor, half_range: Tensor) -> Tensor:
    """What tanh pressed into `actions` [..., m]; those at or beyond a limit count as just within."""
    return torch.atanh(((actions - centre) / half_range).clamp(-1.0 + SQUASH_MARGIN, 1.0 - SQUASH_MARGIN))


class ActionDistribution(Distribution):
    """N(mean, L Lᵀ), pressed into `limits` by tanh where those are given.

    mean [..., m] and scale_tril L [..., m, m], lower triangular with a positive diagonal, are those before squashing;
    limits is (lower [m], upper [m]). The squashed density is that of Haarnoja et al. 2018 (arXiv:1801.01290),
    appendix C. `torch.distributions.kl_divergence` takes two of them: a bijection leaves it as it is between the
    Gaussians.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, mean: Tensor, scale_tril: Tensor, limits: tuple[Tensor, Tensor] | None = None) -> None:
        self.gaussian = MultivariateNormal(mean, scale_tril=scale_tril, validate_args=False)
        self.limits = limits
        super().__init__(self.gaussian.batch_shape, self.gaussian.event_shape, validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 - as torch declares it
        """Actions [*sample_shape, ..., m], differentiable in mean and scale."""
        return self._squash(self.gaussian.rsample(sample_shape))

    def rsample_with_log_prob(self) -> tuple[Tensor, Tensor]:
        """Actions [..., m] and their log densities [...], which never have to be squashed back."""
        values = self.gaussian.rsample()
        return self._squash(values), self._log_prob_before(values)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density [...] of actions [..., m]; squashed, those at or beyond a limit count as just within."""
        if self.limits is None:
            return self.gaussian.log_prob(value)
        return self._log_prob_before(unsquashed(value, *self._centre_and_half_range()))

    def entropy(self) -> Tensor:
        """Entropy [...] in nats. Raises NotImplementedError when squashed: there is no closed form."""
        if self.limits is not None:
            raise NotImplementedError("the entropy of a squashed Gaussian has no closed form; sample -log_prob instead")
        return self.gaussian.entropy()

    def _squash(self, values: Tensor) -> Tensor:
        if self.limits is None:
            return values
        centre, half_range = self._centre_and_half_range()
        return centre + half_range * torch.tanh(values)

    def _log_prob_before(self, values: Tensor) -> Tensor:
        density = self.gaussian.log_prob(values)
        if self.limits is None:
            return density
        _, half_range = self._centre_and_half_range()
        # log(1 - tanh² z), finite for every z.
        slopes = 2.0 * (math.log(2.0) - values - softplus(-2.0 * values)) + half_range.log()
        return density - slopes.sum(dim=-1)

    def _centre_and_half_range(self) -> tuple[Tensor, Tensor]:
        assert self.limits is not None
        lower, upper = self.limits
        return 0.5 * (lower + upper), 0.5 * (upper - lower)


@register_kl(ActionDistribution, ActionDistribution)
def _kl_between_actions(first: ActionDistribution, second: ActionDistribution) -> Tensor:
    ours, theirs = first.limits, second.limits
    if (ours is None) != (theirs is None) or (
        ours is not None and theirs is not None and not all(map(torch.equal, ours, theirs))
    ):
        raise NotImplementedError("KL divergence of two policies' actions: expected both squashed into the same limits")
    return kl_divergence(first.gaussian, second.gaussian)
