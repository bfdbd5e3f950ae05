# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy method as PETS uses it."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.specs import Array
from mbrl_planner.planner import Actions, Answer, Planner, PlannerConfig
from mbrl_planner.registry import PLANNERS

TRUNCATION = 2.0  # standard deviations
_TAIL = math.erf(TRUNCATION / math.sqrt(2.0))


@dataclass(frozen=True)
class CemConfig(PlannerConfig):
    """Parameters of CEM."""

    elites: int = parameter(10, "best sequences that the distribution is fitted to", minimum=1, maximum=10_000)
    initial_std: float = parameter(
        0.5,
        "standard deviation at the start of a plan, as a share of half the action range",
        minimum=1e-3,
        maximum=10.0,
    )
    momentum: float = parameter(0.1, "weight of the previous mean and variance in an update", minimum=0.0, maximum=0.99)

    def __post_init__(self) -> None:
        if self.elites >= self.population_size:
            raise ConfigurationError(
                f"parameter 'elites': got {self.elites}, expected less than population_size {self.population_size}"
            )


@PLANNERS.register("cem", CemConfig)
class Cem(Planner):
    """CEM of Chua et al. 2018 (PETS, arXiv:1805.12114, algorithm 1 and appendix A.5): independent Gaussians truncated
    at two standard deviations, whose variance is bounded so that this stays within the limits; the mean is executed
    and, shifted, starts the next plan with the initial variance. `predicted_return` is the mean over the last elites.
    """

    kind = "cem"
    config: CemConfig

    def reset(self) -> None:
        super().reset()
        self._mean: Actions = self._central_actions()
        self._variance: Actions = np.empty_like(self._mean)
        self._return = float("nan")

    def _begin(self, passed: int) -> None:
        self._mean = self._shifted(self._mean, passed, self.centre)
        std = np.float32(self.config.initial_std) * self.half_range
        self._variance = np.tile(std * std, (self.config.horizon, 1))

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        config = self.config
        reach = np.minimum(self._mean - self.lower, self.upper - self._mean) / np.float32(TRUNCATION)
        std = np.sqrt(np.minimum(self._variance, reach * reach))
        candidates = truncated_normal(self.random, (config.population_size, *self._mean.shape))
        candidates *= std
        candidates += self._mean
        np.clip(candidates, self.lower, self.upper, out=candidates)
        returns = self._evaluate(state, candidates)
        count = self._of_evaluated(config.elites)
        order = np.argpartition(-returns, count)[:count]
        order = order[np.isfinite(returns[order])]
        elites = candidates[order]
        keep = np.float32(config.momentum)
        self._mean = keep * self._mean + (1 - keep) * elites.mean(axis=0)
        self._variance = keep * self._variance + (1 - keep) * elites.var(axis=0)
        self._return = float(returns[order].mean())

    def _answer(self) -> Answer:
        return Answer(self._mean, self._return)


def truncated_normal(random: np.random.Generator, shape: tuple[int, ...]) -> Actions:
    """Standard normal truncated at +-TRUNCATION, by inversion of its distribution function."""
    uniform = random.random(shape, dtype=np.float32)
    tensor = torch.from_numpy(uniform).mul_(2.0 * _TAIL).sub_(_TAIL).erfinv_().mul_(math.sqrt(2.0))
    values: Actions = tensor.numpy()
    return values
