# SPDX-License-Identifier: Apache-2.0
"""What the members of a reward are fitted by: likelihoods of windows and of episodes, a discriminator, regularisers.

Each is a sum over members, so that each member's gradient is its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_policy.irl.guided_config import GuidedCostConfig
from mbrl_policy.irl.importance import effective_share, flattened_weights
from mbrl_policy.irl.reward_model import RewardModel

Episode = tuple[Tensor, Tensor]  # states [T + 1, n], actions [T, m]


@dataclass(frozen=True)
class Samples:
    """The shown window, first, and samples of each start [B, J, ...]: states, wanted actions, log q of the whole [B, J]
    and of each step [B, J, H], the price of limits [B, J, H], and whether all numbers are finite [B, J].
    """

    states: Tensor
    actions: Tensor
    whole: Tensor
    steps: Tensor
    limits: Tensor
    finite: Tensor

    def rows(self, index: Tensor) -> "Samples":
        """Of the starts `index` [b]."""
        return Samples(*(part[index] for part in vars(self).values()))


def guided_loss(config: GuidedCostConfig, model: RewardModel, data: Samples) -> tuple[Tensor, tuple[float, float]]:
    """Minus the surrogate whose gradient is the likelihood's, and (likelihood, effective share) of the mean member."""
    members, (starts, count) = model.members, data.whole.shape
    total = model.rewards(data.states[:, :, :-1], data.actions, data.states[:, :, 1:]).sum(dim=-1)
    with torch.no_grad():
        ratio = total - data.limits.sum(dim=-1) - data.whole
        ratio = torch.where(data.finite, ratio, -torch.inf).reshape(members * starts, count)
        partition = torch.logsumexp(ratio, dim=1).reshape(members, starts) - math.log(count)
        told = float((total[:, :, 0] - partition).mean()), float(effective_share(ratio).mean())
        weights = flattened_weights(ratio, config.least_effective).reshape(members, starts, count)
    expected = (weights * torch.where(data.finite, total, 0.0)).sum(dim=2)
    return (expected - total[:, :, 0]).mean(dim=1).sum(), told


def episode_loss(
    config: GuidedCostConfig, model: RewardModel, shown: Sequence[Episode], own: Sequence[Episode], densities: Tensor
) -> Tensor:
    """Minus the log likelihood of whole episodes, whose starts are drawn from one distribution; `own` [E] with the log
    densities [E] of their noise, and what was shown among the samples.

    Weights are flattened by alpha = H / T, which makes an episode count as one window: products of T densities are
    never good enough.
    """
    if not own or not config.episode_weight:
        return torch.zeros((), dtype=torch.float64)
    theirs, mine = _totals(model, shown), _totals(model, own)
    alpha = config.horizon / (sum(len(actions) for _, actions in shown) / len(shown))
    # The noise of what was shown is not known; that of the learner's episodes stands in for it.
    logits = alpha * torch.cat([theirs - densities.mean(), mine - densities], dim=1)
    likelihood = alpha * (theirs - densities.mean()).mean(dim=1) - torch.logsumexp(logits, dim=1)
    return -config.episode_weight * likelihood.sum()


def _totals(model: RewardModel, episodes: Sequence[Episode]) -> Tensor:
    """Returns [K, E] of whole episodes, which may differ in length."""
    lengths = [len(actions) for _, actions in episodes]
    parts = (
        torch.cat([states[:-1] for states, _ in episodes]), torch.cat([actions for _, actions in episodes]),
        torch.cat([states[1:] for states, _ in episodes]),
    )  # fmt: skip
    return torch.stack([part.sum(dim=1) for part in model.rewards(*parts).split(lengths, dim=1)], dim=1)


def adversarial_loss(config: GuidedCostConfig, model: RewardModel, potential: RewardModel, data: Samples) -> Tensor:
    """Of the discriminator, shown steps against sampled ones; both count the same."""
    state, action, later = data.states[:, :, :-1], data.actions, data.states[:, :, 1:]
    now, then = (potential.rewards(each, action, each) for each in (state, later))
    advantage = model.rewards(state, action, later) + config.discount * then - now
    logit = advantage - data.limits - data.steps
    shown, sampled = logit[:, :, 0], logit[:, :, 1:]
    log_sigmoid = torch.nn.functional.logsigmoid
    finite = data.finite[:, 1:]
    return -(log_sigmoid(shown).mean(dim=(1, 2)) + log_sigmoid(-sampled[:, finite]).mean(dim=(1, 2))).sum()


def regularisers(config: GuidedCostConfig, model: RewardModel, states: Tensor, actions: Tensor) -> Tensor:
    """The paper's, section 5, of shown windows [B, H + 1, n], [B, H, m]: costs along demonstrations change evenly, and
    do not rise by more than one.
    """
    if not config.rate_weight and not config.monotone_weight:
        return torch.zeros((), dtype=torch.float64)
    cost = -model.rewards(states[:, :-1], actions, states[:, 1:])
    change = cost[..., 1:] - cost[..., :-1]
    even = (change[..., 1:] - change[..., :-1]).square().sum(dim=2).mean(dim=1).sum()
    rising = torch.relu(change - 1.0).square().sum(dim=2).mean(dim=1).sum()
    return config.rate_weight * even + config.monotone_weight * rising
