# SPDX-License-Identifier: Apache-2.0
"""Coupling by an augmented Lagrangian for each time step."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.lqr import QuadraticPenalty
from mbrl_policy.couplings import COUPLINGS, Coupling, SupervisedTargets, TrajectoryTerms
from mbrl_policy.kl_step import Terms
from mbrl_policy.linear_gaussian import LinearGaussianController


@dataclass(frozen=True)
class AugmentedLagrangianConfig:
    """Parameters of the augmented Lagrangian; weights are in units of reward, of half an action range squared."""

    first_weight: float = parameter(0.1, "rho_t to start from", minimum=1e-9)
    most_weight: float = parameter(100.0, "rho_t does not rise above", minimum=1e-9)
    rate: float = parameter(
        1.0, "step of the multipliers, of the 2 rho_t that the method of multipliers takes", minimum=0.0, maximum=2.0
    )
    factor: float = parameter(2.0, "rho_t is multiplied by it where agreement makes no progress", minimum=1.0)
    progress: float = parameter(
        0.7, "share of a step's last disagreement below which the next counts as progress", minimum=0.0, maximum=1.0
    )


@COUPLINGS.register("augmented_lagrangian", AugmentedLagrangianConfig)
class AugmentedLagrangian(Coupling):
    """Disagreement e_t = pi(x_t) - u_t, in half ranges, with multipliers lambda_t and weights rho_t for each time step:

        L(tau, theta, lambda) = sum_t l_t + lambda_t'e_t + rho_t |e_t|^2

        p <- argmin E_p L   subject to  KL(p || previous) <= epsilon
        theta <- argmin E L
        lambda_t <- lambda_t + 2 rate rho_t E e_t,   rho_t <- factor rho_t where |E e_t| has not fallen

    The method of multipliers for the mean disagreement of a step (Nocedal and Wright 2006, "Numerical Optimization",
    algorithm 17.4), as in Mordatch and Todorov 2014, "Combining the benefits of function approximation and trajectory
    optimization", whose policies are deterministic. For the supervised step 2 rho_t is the precision of the target.
    """

    kind = "augmented_lagrangian"
    config: AugmentedLagrangianConfig

    def __init__(self, config: AugmentedLagrangianConfig, horizon: int, half_range: Array) -> None:
        super().__init__(config, horizon, half_range)
        if config.first_weight > config.most_weight:
            raise ValueError(
                f"parameter 'first_weight': got {config.first_weight}, expected at most most_weight"
                f" {config.most_weight}"
            )
        self.multipliers = np.zeros((horizon, len(half_range)))
        self.weights = np.full(horizon, config.first_weight)
        self.disagreement = np.full(horizon, -1.0)  # of the last iteration; none yet

    def trajectory_terms(self, previous: LinearGaussianController, policy: LinearGaussianController) -> TrajectoryTerms:
        gains, back, weight = policy.gains, np.swapaxes(policy.gains, 1, 2), self._precisions()
        pull = (weight @ policy.offsets[..., None])[..., 0] + self.multipliers / self.half_range
        penalty = QuadraticPenalty(
            state=back @ weight @ gains, cross=-weight @ gains, action=weight,
            state_linear=(back @ pull[..., None])[..., 0], action_linear=-pull,
        )  # fmt: skip
        return TrajectoryTerms(previous, Terms(penalty, np.zeros(self.horizon)))

    def targets(self, controller: LinearGaussianController, states: Array) -> SupervisedTargets:
        shift = self.half_range * self.multipliers / (2.0 * self.weights[:, None])
        return SupervisedTargets(controller.means(states) - shift, self._precisions(), np.ones(self.horizon))

    def update(
        self,
        controller: LinearGaussianController,
        policy: LinearGaussianController,
        states: Array,
        policy_means: Array,
    ) -> None:
        config = self.config
        mean = self._disagreement(controller, states, policy_means).mean(axis=0) / self.half_range
        self.multipliers = self.multipliers + 2.0 * config.rate * self.weights[:, None] * mean
        size = np.linalg.norm(mean, axis=1)
        stuck = (self.disagreement >= 0.0) & (size > config.progress * self.disagreement)
        self.weights = np.where(stuck, np.minimum(config.factor * self.weights, config.most_weight), self.weights)
        self.disagreement = size

    def state_arrays(self) -> dict[str, Array]:
        return {
            "multipliers": self.multipliers.copy(),
            "weights": self.weights.copy(),
            "disagreement": self.disagreement.copy(),
        }

    def _precisions(self) -> Array:
        """2 rho_t / half_range^2 on the diagonal, [H, m, m]."""
        return np.asarray(2.0 * self.weights[:, None, None] * np.diag(1.0 / self.half_range**2))
