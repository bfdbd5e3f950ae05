# SPDX-License-Identifier: Apache-2.0
"""Coupling by Bregman alternating directions."""

from dataclasses import dataclass, replace

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_policy.couplings import COUPLINGS, Coupling, SupervisedTargets, TrajectoryTerms
from mbrl_policy.kl_step import Terms, log_density_penalty
from mbrl_policy.linear_gaussian import LinearGaussianController


@dataclass(frozen=True)
class BadmmConfig:
    """Parameters of BADMM; weights are in units of reward a nat."""

    first_weight: float = parameter(0.01, "nu_t to start from", minimum=1e-9)
    least_weight: float = parameter(1e-4, "nu_t does not fall below", minimum=1e-9)
    most_weight: float = parameter(100.0, "nu_t does not rise above", minimum=1e-9)
    rate: float = parameter(0.1, "alpha, step of the multipliers", minimum=0.0, maximum=1.0)
    factor: float = parameter(2.0, "nu_t is multiplied or divided by it in an iteration", minimum=1.0, maximum=10.0)
    lower_deviations: float = parameter(
        2.0, "nu_t falls where the divergence is so many standard deviations below the steps' mean", minimum=0.0
    )


@COUPLINGS.register("badmm", BadmmConfig)
class Badmm(Coupling):
    """Levine, Finn, Darrell and Abbeel 2016, "End-to-end training of deep visuomotor policies", JMLR 17.

    Policy and controllers are to agree in the mean action of every step, E_pi u_t = E_p u_t, with multipliers lambda_t:

        p <- argmin sum_t E_p [l_t - u_t'lambda_t] + nu_t E_p KL(p || pi)   subject to  KL(p || previous) <= epsilon
        pi <- argmin sum_t E_pi [u_t'lambda_t] + nu_t E_p KL(pi || p)
        lambda_t <- lambda_t + alpha nu_t (E_pi u_t - E_p u_t)

    The policy's linear term moves its targets by -C_t lambda_t / nu_t. Weights nu_t are scaled by the paper's schedule:
    up where a step's divergence E_p KL(p || pi) is above the mean of the steps, down where it is two standard
    deviations below, so that all steps come to agree about as well. Expectations are over the rollouts' states.
    """

    kind = "badmm"
    config: BadmmConfig

    def __init__(self, config: BadmmConfig, horizon: int, half_range: Array) -> None:
        super().__init__(config, horizon, half_range)
        if not config.least_weight <= config.first_weight <= config.most_weight:
            raise ValueError(
                f"parameter 'first_weight': got {config.first_weight}, expected least_weight {config.least_weight}"
                f" to most_weight {config.most_weight}"
            )
        self.multipliers = np.zeros((horizon, len(half_range)))
        self.weights = np.full(horizon, config.first_weight)

    def trajectory_terms(self, previous: LinearGaussianController, policy: LinearGaussianController) -> TrajectoryTerms:
        near = log_density_penalty(policy, self.weights)
        penalty = replace(near, action_linear=near.action_linear - self.multipliers)
        return TrajectoryTerms(previous, Terms(penalty, self.weights.copy()))

    def targets(self, controller: LinearGaussianController, states: Array) -> SupervisedTargets:
        shift = np.einsum("hij,hj->hi", controller.covariances, self.multipliers) / self.weights[:, None]
        return SupervisedTargets(controller.means(states) - shift, controller.precisions, self.weights.copy())

    def update(
        self,
        controller: LinearGaussianController,
        policy: LinearGaussianController,
        states: Array,
        policy_means: Array,
    ) -> None:
        config, difference = self.config, self._disagreement(controller, states, policy_means)
        self.multipliers = self.multipliers + config.rate * self.weights[:, None] * difference.mean(axis=0)
        distance = np.einsum("rhi,hij,rhj->h", difference, policy.precisions, difference) / len(difference)
        noise = np.einsum("hij,hji->h", policy.precisions, controller.covariances) - len(self.half_range)
        divergence = 0.5 * (noise + policy.log_determinants - controller.log_determinants + distance)
        mean, deviation = divergence.mean(), divergence.std()
        change = np.where(divergence > mean, config.factor, 1.0)
        # Steps that all agree alike are not below their mean.
        low = (divergence <= mean - config.lower_deviations * deviation) & (divergence < mean)
        change[low] = 1.0 / config.factor
        self.weights = np.clip(self.weights * change, config.least_weight, config.most_weight)

    def state_arrays(self) -> dict[str, Array]:
        return {"multipliers": self.multipliers.copy(), "weights": self.weights.copy()}
