# SPDX-License-Identifier: Apache-2.0
"""Model predictive path integral control."""

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
class MppiConfig(WeightedAverageConfig):
    """Parameters of MPPI."""

    noise_weight: float = parameter(
        0.4,
        "weight of fresh noise in the filter n_t = w u_t + (1 - w) n_(t-1); 1 is white noise",
        minimum=0.01,
        maximum=1.0,
    )
    temperature: float = parameter(
        0.3, "lambda: in units of reward, or of the standard deviation of the candidates' returns", minimum=1e-6
    )
    relative_temperature: bool = parameter(
        True,
        "temperature is in units of the standard deviation of the candidates' returns, which suits every reward scale",
    )
    control_cost: float = parameter(
        0.0,
        "1 - alpha of Williams et al.: share of the information-theoretic control cost; 0 leaves the cost of actions to"
        " the task",
        minimum=0.0,
        maximum=1.0,
    )


@PLANNERS.register("mppi", MppiConfig)
class Mppi(WeightedAverage):
    """Information-theoretic MPPI of Williams et al. 2017, "Information Theoretic MPC for Model-Based Reinforcement
    Learning", algorithm 2: the mean moves to the average of the perturbed sequences weighted by
    exp(-(S - min S) / lambda), S = -return + lambda (1 - alpha) sum_t mean_t^T Sigma^-1 perturbation_t.

    Departures: perturbations may be filtered in time (PDDM, Nagabandi et al. 2019) with the marginal variance
    Sigma kept; lambda may be relative to the spread of the returns; several iterations share one plan;
    sequences are clipped to the limits before they are weighted. The weighted mean is executed;
    `predicted_return` is its weighted return.
    """

    kind = "mppi"
    config: MppiConfig

    def _weights(self, candidates: Actions, returns: NDArray[np.float32]) -> Array:
        config = self.config
        temperature = scaled_temperature(config.temperature, config.relative_temperature, returns)
        values = returns.astype(np.float64)
        if config.control_cost > 0.0:
            std = self._std()
            perturbation = (candidates - self._mean) / (std * std)
            values -= temperature * config.control_cost * np.einsum("nta,ta->n", perturbation, self._mean - self.centre)
        return exponential_weights(values, temperature)
