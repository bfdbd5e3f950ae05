# SPDX-License-Identifier: Apache-2.0
"""Filtering and reward-weighted refinement, the planner of PDDM."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.noise import filtered_noise
from mbrl_planner.planner import Actions, Answer, Planner, PlannerConfig
from mbrl_planner.registry import PLANNERS
from mbrl_planner.weighting import exponential_weights, scaled_temperature


@dataclass(frozen=True)
class PddmConfig(PlannerConfig):
    """Parameters of PDDM."""

    noise_std: float = parameter(
        0.5,
        "marginal standard deviation of the perturbations at every step, as a share of half the action range; the same"
        " whatever noise_weight",
        minimum=1e-3,
        maximum=10.0,
    )
    noise_weight: float = parameter(
        0.6,
        "beta: weight of fresh noise in the filter n_t = beta u_t + (1 - beta) n_(t-1); 1 is white",
        minimum=0.01,
        maximum=1.0,
    )
    reward_weighting: float = parameter(
        10.0,
        "gamma of the weights exp(gamma return): per unit of reward, or per standard deviation of the returns",
        minimum=1e-6,
    )
    relative_weighting: bool = parameter(
        True, "reward_weighting is per standard deviation of the candidates' returns, which suits every reward scale"
    )


@PLANNERS.register("pddm", PddmConfig)
class Pddm(Planner):
    """Nagabandi et al. 2019, "Deep Dynamics Models for Learning Dexterous Manipulation" (arXiv:1909.11652), section
    3.3: every candidate is the mean plus filtered noise (eq. 3 and 4), and the mean becomes

        mean_t = sum_k exp(gamma R_k) a_t^k / sum_k exp(gamma R_k)            (eq. 5)

    which couples the steps of a sequence, as independent noise does not.

    Departures: the filter keeps the marginal variance, u being drawn with (2 - beta) / beta times the variance of n
    and n_0 from the stationary distribution, so that beta changes the smoothness alone; gamma may be relative
    to the spread of the returns; the mean itself is a candidate; several iterations share one plan.
    `predicted_return` is the weighted return.
    """

    kind = "pddm"
    config: PddmConfig

    def reset(self) -> None:
        super().reset()
        self._mean: Actions = self._central_actions()
        self._return = float("nan")

    def _begin(self, passed: int) -> None:
        self._mean = self._shifted(self._mean, passed)

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        config = self.config
        candidates = filtered_noise(
            self.random, config.noise_weight, config.population_size, config.horizon, self.spec.action.size
        )
        candidates[0] = 0.0
        candidates *= np.float32(config.noise_std) * self.half_range
        candidates += self._mean
        np.clip(candidates, self.lower, self.upper, out=candidates)
        returns = self._evaluate(state, candidates)
        temperature = scaled_temperature(1.0 / config.reward_weighting, config.relative_weighting, returns)
        weights = exponential_weights(returns.astype(np.float64), temperature)
        self._mean = np.tensordot(weights.astype(np.float32), candidates, axes=1)
        # The rounded weights may sum to a hair more than one.
        np.clip(self._mean, self.lower, self.upper, out=self._mean)
        finite = np.isfinite(returns)
        self._return = float(weights[finite] @ returns[finite])

    def _answer(self) -> Answer:
        return Answer(self._mean, self._return)
