# SPDX-License-Identifier: Apache-2.0
"""Covariance matrix adaptation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.noise import noise_covariance
from mbrl_planner.planner import Actions, Answer, Planner, PlannerConfig
from mbrl_planner.registry import PLANNERS


@dataclass(frozen=True)
class CmaEsConfig(PlannerConfig):
    """Parameters of CMA-ES."""

    initial_std: float = parameter(
        0.5, "sigma at the start of a plan, as a share of half the action range", minimum=1e-3, maximum=10.0
    )
    noise_exponent: float = parameter(
        2.0,
        "the first covariance is that of noise whose power falls as 1 / frequency^exponent",
        minimum=0.0,
        maximum=10.0,
    )


class Strategy:
    """Learning rates and weights for dimension n and population lambda: Hansen 2016, table 1, positive weights."""

    def __init__(self, dimension: int, population: int) -> None:
        n = dimension
        self.parents = max(population // 2, 1)
        raw = np.log((population + 1) / 2.0) - np.log(np.arange(1, self.parents + 1))
        self.weights = raw / raw.sum()
        self.effective = effective = 1.0 / float(np.sum(self.weights**2))
        self.path_rate = (effective + 2.0) / (n + effective + 5.0)
        self.damping = 1.0 + 2.0 * max(0.0, np.sqrt((effective - 1.0) / (n + 1.0)) - 1.0) + self.path_rate
        self.covariance_path_rate = (4.0 + effective / n) / (n + 4.0 + 2.0 * effective / n)
        self.rank_one = 2.0 / ((n + 1.3) ** 2 + effective)
        rank_mu = 2.0 * (0.25 + effective + 1.0 / effective - 2.0) / ((n + 2.0) ** 2 + effective)
        self.rank_mu = min(1.0 - self.rank_one, max(rank_mu, 0.0))
        self.expected_length = np.sqrt(n) * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n))


@PLANNERS.register("cma_es", CmaEsConfig)
class CmaEs(Planner):
    """(mu/mu_w, lambda)-CMA-ES of Hansen 2016, "The CMA Evolution Strategy: A Tutorial" (arXiv:1604.00772), figure 6,
    over the whole action sequence, x ~ m + sigma N(0, C):

        m <- m + sum_i w_i (x_i - m)                                     the mu best, by rank
        p_s <- (1 - c_s) p_s + sqrt(c_s (2 - c_s) mu_eff) C^(-1/2) y,    y = the mean's step / sigma
        sigma <- sigma exp(c_s / d_s (|p_s| / E|N(0, I)| - 1))
        C <- (1 - c_1 - c_mu) C + c_1 p_c p_c^T + c_mu sum_i w_i y_i y_i^T

    Departures: C begins as the covariance of coloured noise, since a plan has few iterations to learn that
    neighbouring actions go together; sequences are clipped to the limits and learned from as clipped; each plan begins
    with a new C and sigma around the shifted mean; the mean is a candidate of the last iteration; the best sequence
    seen is executed.
    """

    kind = "cma_es"
    config: CmaEsConfig

    def reset(self) -> None:
        super().reset()
        # In units of half the action range around its centre.
        self._mean: Actions = np.zeros((self.config.horizon, self.spec.action.size), dtype=np.float32)
        self._best = Answer(self._central_actions(), -np.inf)

    def _begin(self, passed: int) -> None:
        config, size = self.config, self.spec.action.size
        self._mean = self._shifted(self._mean, passed, 0.0)
        dimension = config.horizon * size
        self._strategy = Strategy(dimension, config.population_size)
        self._sigma = config.initial_std
        self._covariance = np.kron(noise_covariance(config.noise_exponent, config.horizon), np.eye(size))
        self._path = np.zeros(dimension)
        self._covariance_path = np.zeros(dimension)
        self._best = Answer(self._actions(self._mean[None])[0], -np.inf)

    def _actions(self, points: NDArray[Any]) -> Actions:
        """float32 actions of points [N, H, action_size], within the limits."""
        return np.clip((points * self.half_range + self.centre).astype(np.float32), self.lower, self.upper)

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        strategy = self._strategy
        values, vectors = np.linalg.eigh(self._covariance)
        scales = np.sqrt(np.maximum(values, 1e-14))
        mean = self._mean.ravel().astype(np.float64)
        draws = self.random.standard_normal((self.config.population_size, len(mean)))
        points = np.clip(mean + self._sigma * (draws * scales) @ vectors.T, -1.0, 1.0)
        if last:
            points[-1] = np.clip(mean, -1.0, 1.0)
        candidates = self._actions(points.reshape(len(points), *self._mean.shape))
        returns = self._evaluate(state, candidates, last_first=True)
        order = np.argsort(-returns)[: strategy.parents]
        best = int(order[0])
        if returns[best] > self._best.predicted_return:
            self._best = Answer(candidates[best], float(returns[best]), self.objective.prediction(best))
        steps = (points[order] - mean) / self._sigma
        # A candidate without a finite return teaches nothing, whatever its rank.
        weights = np.where(np.isfinite(returns[order]), strategy.weights, 0.0)
        step = weights @ steps
        self._mean = (mean + self._sigma * step).astype(np.float32).reshape(self._mean.shape)
        self._adapt(step, steps, weights, vectors, scales, index)

    def _adapt(self, step: Array, steps: Array, weights: Array, vectors: Array, scales: Array, index: int) -> None:
        strategy = self._strategy
        whitened = vectors @ ((step @ vectors) / scales)
        rate = strategy.path_rate
        self._path = (1.0 - rate) * self._path + np.sqrt(rate * (2.0 - rate) * strategy.effective) * whitened
        length = float(np.linalg.norm(self._path)) / strategy.expected_length
        # While sigma still grows fast the covariance must not grow as well.
        steady = length / np.sqrt(1.0 - (1.0 - rate) ** (2 * (index + 1))) < 1.4 + 2.0 / (len(step) + 1.0)
        rate = strategy.covariance_path_rate
        gain = np.sqrt(rate * (2.0 - rate) * strategy.effective) if steady else 0.0
        self._covariance_path = (1.0 - rate) * self._covariance_path + gain * step
        lost = 0.0 if steady else strategy.rank_one * rate * (2.0 - rate)
        keep = 1.0 - strategy.rank_one - strategy.rank_mu * weights.sum() + lost
        self._covariance = keep * self._covariance + strategy.rank_one * np.outer(
            self._covariance_path, self._covariance_path
        )
        self._covariance += strategy.rank_mu * (steps.T * weights) @ steps
        self._sigma *= float(np.exp(min(1.0, strategy.path_rate / strategy.damping * (length - 1.0))))

    def _answer(self) -> Answer:
        return self._best
