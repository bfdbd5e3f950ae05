# SPDX-License-Identifier: Apache-2.0
"""Planners that move a mean to the weighted average of sequences around it: what MPPI and PDDM have in common."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.noise import filtered_noise
from mbrl_planner.planner import Actions, Answer, Planner, PlannerConfig


@dataclass(frozen=True)
class WeightedAverageConfig(PlannerConfig):
    """Parameters of the noise around the mean."""

    noise_std: float = parameter(
        0.5,
        "marginal standard deviation of the perturbations at every step, as a share of half the action range; the same"
        " whatever noise_weight",
        minimum=1e-3,
        maximum=10.0,
    )
    noise_weight: float = parameter(
        0.5,
        "weight of fresh noise in the filter n_t = w u_t + (1 - w) n_(t-1); 1 is white noise",
        minimum=0.01,
        maximum=1.0,
    )


class WeightedAverage(Planner):
    """Draws candidates as the mean plus filtered noise, the mean itself among them, clips them to the limits, and makes
    the average of all by the weights that a subclass gives them the new mean.

    The mean is executed; `predicted_return` is the weighted return.
    """

    config: WeightedAverageConfig

    def reset(self) -> None:
        super().reset()
        self._mean: Actions = self._central_actions()
        self._return = float("nan")

    def _begin(self, passed: int) -> None:
        self._mean = self._shifted(self._mean, passed, self.centre)

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        config = self.config
        candidates = filtered_noise(
            self.random, config.noise_weight, config.population_size, config.horizon, self.spec.action.size
        )
        candidates[0] = 0.0  # the mean itself is a candidate
        candidates *= self._std()
        candidates += self._mean
        np.clip(candidates, self.lower, self.upper, out=candidates)
        returns = self._evaluate(state, candidates)
        weights = self._weights(candidates, returns)
        self._mean = np.tensordot(weights.astype(np.float32), candidates, axes=1)
        # The rounded weights may sum to a hair more than one.
        np.clip(self._mean, self.lower, self.upper, out=self._mean)
        finite = np.isfinite(returns)
        self._return = float(weights[finite] @ returns[finite])

    def _std(self) -> Actions:
        """[action_size] standard deviation of the perturbations, normalised units."""
        return np.float32(self.config.noise_std) * self.half_range

    @abstractmethod
    def _weights(self, candidates: Actions, returns: NDArray[np.float32]) -> Array:
        """Weights [N] that sum to one, of candidates [N, H, action_size] with `returns` [N], -inf where not finite."""

    def _answer(self) -> Answer:
        return Answer(self._mean, self._return)


def exponential_weights(values: Array, temperature: float) -> Array:
    """Weights [N] proportional to exp(value / temperature), which sum to one; values [N] that are -inf get none.

    At least one value has to be finite. The largest is subtracted first, so that nothing overflows.
    """
    weights = np.exp((values - values[np.isfinite(values)].max()) / temperature)
    return np.asarray(weights / weights.sum())


def scaled_temperature(temperature: float, relative: bool, returns: NDArray[np.float32]) -> float:
    """`temperature`, in units of the standard deviation of the finite returns [N] when `relative`."""
    if not relative:
        return temperature
    # Equal returns leave the weights equal: any positive temperature does.
    return max(temperature * float(returns[np.isfinite(returns)].std()), 1e-12)
