# SPDX-License-Identifier: Apache-2.0
"""Risk in planning: what spread of the predicted rewards and the chance of hitting an obstacle cost a candidate.

Everything here is differentiable and works on particles [..., P] that are grouped by member as `rollout` lays them out
with `tsinf`: the first P / members particles belong to member 0 for the whole horizon, and so on.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel

MEMBER_KEEPING = ("tsinf",)  # propagations whose particles stay with their member


@dataclass(frozen=True)
class RiskConfig:
    """What uncertainty and collisions cost; part of every planner's parameters."""

    epistemic_penalty: float = parameter(
        0.0,
        "reward that one standard deviation of the members' expected rewards costs, at every step: what the model does"
        " not know; 0 = off",
        minimum=0.0,
    )
    aleatoric_penalty: float = parameter(
        0.0,
        "reward that one standard deviation of the reward within a member costs, at every step: noise; 0 = off",
        minimum=0.0,
    )
    collision_weight: float = parameter(
        10.0,
        "reward that a step inside an obstacle of the task costs for each m/s of speed; 0 = obstacles are ignored",
        minimum=0.0,
    )
    collision_std_weight: float = parameter(
        0.0,
        "lambda: weight of the standard deviation of the members' collision probabilities beside their mean"
        " (arXiv:1702.01182); 0 = the mean alone",
        minimum=0.0,
    )
    collision_width: float = parameter(
        0.005, "m: standard deviation of an obstacle's edge, by which collision probability grows", minimum=1e-6
    )
    collision_least_speed: float = parameter(
        0.1, "m/s added to the speed with which collisions are weighed: what being inside costs at rest", minimum=0.0
    )

    @property
    def separates_members(self) -> bool:
        """Whether a penalty needs to know what is spread across members and what within them."""
        return max(self.epistemic_penalty, self.aleatoric_penalty, self.collision_std_weight) > 0.0


def check_risk(config: RiskConfig, propagation: str, particles: int, model: DynamicsModel | None = None) -> None:
    """Raises ConfigurationError when spread cannot be told apart: by a `propagation` whose particles change members, or
    with a single particle a member of a model with noise. Without a model yet only the first is checked.
    """
    if not config.separates_members:
        return
    names = ("epistemic_penalty", "aleatoric_penalty", "collision_std_weight")
    given = next(f"planner.{name}" for name in names if getattr(config, name) > 0.0)
    if propagation not in MEMBER_KEEPING:
        raise ConfigurationError(
            f"parameter 'planner.propagation': got {propagation!r}, expected {' or '.join(MEMBER_KEEPING)} when"
            f" {given!r} is above 0: particles must stay with their member"
        )
    if model is not None and not model.deterministic and particles < 2 * model.members:
        raise ConfigurationError(
            f"parameter 'planner.particles': got {particles}, expected at least {2 * model.members} (2 for each of the"
            f" model's members) when {given!r} is above 0: one particle cannot tell noise from ignorance"
        )


@dataclass(frozen=True)
class Spread:
    """Mean of a quantity over all particles [...], and its standard deviation [...] across members and within them."""

    mean: Tensor
    epistemic: Tensor
    aleatoric: Tensor


def spread(values: Tensor, members: int, dim: int) -> Spread:
    """Splits the spread of `values` over its particles, dimension `dim` of size P = members x share.

    The law of total variance, Var[r] = Var_m(E[r | m]) + E_m(Var[r | m]), splits what the model does not know from
    noise (Depeweg et al. 2018, "Decomposition of uncertainty in Bayesian deep learning", section 3, arXiv:1710.07283).
    The means r_m of few particles spread by noise alone too, which is taken off again:

        aleatoric^2 = 1/M sum_m s_m^2
        epistemic^2 = max(0, 1/M sum_m (r_m - r)^2 - (M - 1)/M aleatoric^2 / share)

    with s_m^2 the unbiased variance within member m; both are unbiased but for the maximum. A share of 1 is that of
    a model without noise: s_m = 0.
    """
    grouped = values.unflatten(dim, (members, -1))
    dim = dim if dim >= 0 else values.dim() + dim
    by_member = grouped.mean(dim=dim + 1)
    share = grouped.shape[dim + 1]
    within = grouped.var(dim=dim + 1) if share > 1 else torch.zeros_like(by_member)
    noise = within.mean(dim=dim)
    ignorance = by_member.var(dim=dim, correction=0) - (members - 1) / members * noise / share
    return Spread(by_member.mean(dim=dim), _root(ignorance), _root(noise))


def collision_probability(clearance: Tensor, width: float) -> Tensor:
    """Probability that a point at `clearance` (m) of an obstacle is in it: Phi(-clearance / width), elementwise.

    The edge is known up to a Gaussian of standard deviation `width` (m). The mean over particles whose clearance is
    Gaussian itself, N(mu, s^2), is Phi(-mu / sqrt(width^2 + s^2)).
    """
    return torch.special.ndtr(-clearance / width)


def _root(variance: Tensor) -> Tensor:
    """Square root of max(0, variance), with derivative 0 at 0 instead of none."""
    positive = variance > 0.0
    return torch.where(positive, variance.where(positive, torch.ones_like(variance)).sqrt(), 0.0)


class Risk:
    """What a candidate's risk costs, for `ModelObjective`."""

    def __init__(self, config: RiskConfig, task: Task, members: int) -> None:
        self._config = config
        self._task = task
        self._members = members

    @staticmethod
    def of(
        config: RiskConfig | None, task: Task, propagation: str, particles: int, model: DynamicsModel
    ) -> "Risk | None":
        """The risk of `config` for a task; None when nothing of it costs anything there. Raises ConfigurationError
        where `check_risk` does."""
        if config is None:
            return None
        check_risk(config, propagation, particles, model)
        collisions = config.collision_weight > 0.0 and bool(task.obstacles)
        if not collisions and config.epistemic_penalty == 0.0 and config.aleatoric_penalty == 0.0:
            return None
        return Risk(config, task, model.members)

    def penalty(self, states: Tensor, rewards: Tensor, ended: Tensor | None = None) -> Tensor:
        """Reward [N] taken from each candidate, from states [N, P, H + 1, state_size] and rewards [N, P, H].

        With the spreads sigma of each step's reward (see `spread`), and for each step the speed v of the point nearest
        to an obstacle and its probability p of being inside:

            sum_t beta_e sigma_e,t + beta_a sigma_a,t + w v_t (mean_m p_m,t + lambda std_m p_m,t)

        The first two are the risk-sensitive criterion of Depeweg et al. 2018 (arXiv:1710.07283), with the two standard
        deviations added up. The last is the risk-averse collision cost of Kahn et al. 2017, "Uncertainty-aware
        reinforcement learning for collision avoidance" (arXiv:1702.01182). Their p is that of a collision anywhere in
        the horizon, from networks on images; here obstacles are known and p follows from the members' predicted states,
        step by step. The standard deviation is across the members' probabilities p_m, each the mean over a member's
        particles. `ended` [N, P, H] is true for steps after a terminal state, which cost nothing.
        """
        config = self._config
        total = torch.zeros_like(rewards[:, 0])
        if config.epistemic_penalty > 0.0 or config.aleatoric_penalty > 0.0:
            of_reward = spread(rewards, self._members, 1)
            total = config.epistemic_penalty * of_reward.epistemic + config.aleatoric_penalty * of_reward.aleatoric
        if config.collision_weight > 0.0 and self._task.obstacles:
            total = total + config.collision_weight * self._collision(states, ended)
        penalty: Tensor = total.sum(dim=-1)
        return penalty

    def reward_along_mean(self, state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        """The task's reward less the cost of collision, [...], for optimisers that follow one mean trajectory.

        Shapes as `Task.reward`. A single trajectory has no spread, so the penalties of spread are none of it.
        """
        reward: Tensor = self._task.reward(state, action, next_state)
        if self._config.collision_weight == 0.0 or not self._task.obstacles:
            return reward
        nearest = self._task.nearest(next_state)
        probability = collision_probability(nearest.clearance, self._config.collision_width)
        speed = nearest.speed + self._config.collision_least_speed
        return reward - self._config.collision_weight * speed * probability

    def _collision(self, states: Tensor, ended: Tensor | None) -> Tensor:
        """Speed x (mean + lambda std) of the collision probability, [N, H]."""
        config = self._config
        nearest = self._task.nearest(states[:, :, 1:])
        probability = collision_probability(nearest.clearance, config.collision_width)
        if ended is not None:
            probability = probability.masked_fill(ended, 0.0)
        speed = nearest.speed.mean(dim=1) + config.collision_least_speed
        if config.collision_std_weight == 0.0:
            return speed * probability.mean(dim=1)
        across = spread(probability, self._members, 1)
        return speed * (across.mean + config.collision_std_weight * across.epistemic)
