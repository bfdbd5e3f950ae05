# SPDX-License-Identifier: Apache-2.0
"""Filtering and reward-weighted refinement, the planner of PDDM."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.planner import Actions
from mbrl_planner.registry import PLANNERS
from mbrl_planner.weighting import (
    WeightedAverage,
    WeightedAverageConfig,
    exponential_weights,
    scaled_temperature,
)


@dataclass(frozen=True)
class PddmConfig(WeightedAverageConfig):
    """Parameters of PDDM."""

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
class Pddm(WeightedAverage):
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

    def _weights(self, candidates: Actions, returns: NDArray[np.float32]) -> Array:
        config = self.config
        temperature = scaled_temperature(1.0 / config.reward_weighting, config.relative_weighting, returns)
        return exponential_weights(returns.astype(np.float64), temperature)
