# SPDX-License-Identifier: Apache-2.0
"""Shooting by gradients through the model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.errors import OutOfTime
from mbrl_planner.noise import coloured_noise
from mbrl_planner.planner import Actions, Answer, Planner, PlannerConfig
from mbrl_planner.registry import PLANNERS

# Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
SHARE_OF_STARTS = 0.5  # most of the time left that a look at all starts, without gradients, may take


@dataclass(frozen=True)
class GradientConfig(PlannerConfig):
    """Parameters of gradient shooting; `population_size` is the number of sequences that are optimised side by side."""

    learning_rate: float = parameter(
        0.1, "step of Adam in each action, as a share of half the action range", minimum=1e-6, maximum=2.0
    )
    initial_std: float = parameter(
        0.5, "standard deviation of the starts around the last plan, as a share of half the action range", minimum=0.0
    )
    noise_exponent: float = parameter(
        2.0, "the starts' noise falls as 1 / frequency^exponent; 0 is white", minimum=0.0, maximum=10.0
    )


@PLANNERS.register("gradient", GradientConfig)
class GradientShooting(Planner):
    """Ascends the return J(a) of several action sequences at once by Adam, within the limits:

        a <- clip(a + learning_rate * half_range * m / (sqrt(v) + epsilon)),   m, v: moments of dJ/da

    through the model's own derivatives (Deisenroth and Rasmussen 2011 for policies; Bharadhwaj et al. 2020,
    "Model-Predictive Control via Cross-Entropy and Gradient-Based Optimization", for action sequences). The first
    sequence starts from the last plan, the others from noise around it: restarts, since J has many local optima. Long
    horizons make gradients explode where the dynamics are chaotic (Parmas et al. 2018); Adam bounds each step, and a
    sequence without finite return or gradient goes on from the best one. The best sequence seen is executed. Without
    an earlier plan all starts are first evaluated without gradient, which takes many times as long: they are an answer
    where it does not fit.
    """

    kind = "gradient"
    config: GradientConfig

    def reset(self) -> None:
        super().reset()
        self._best = Answer(self._central_actions(), -np.inf)

    def _begin(self, passed: int) -> None:
        config = self.config
        last = self._shifted(self._best.actions, passed, self.centre)
        noise = coloured_noise(
            self.random, config.noise_exponent, config.population_size, config.horizon, self.spec.action.size
        )
        noise[0] = 0.0
        noise *= np.float32(config.initial_std) * self.half_range
        self._sequences: Actions = np.clip(last + noise, self.lower, self.upper)
        self._first_moment = np.zeros_like(self._sequences)
        self._second_moment = np.zeros_like(self._sequences)
        self._best = Answer(last, -np.inf)
        self._finished = False

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        if index == 0 and not self.has_answer:
            self._keep_best(self._evaluate(state, self._sequences, within=SHARE_OF_STARTS))
        try:
            returns, gradient = self._evaluate_with_gradient(state, self._sequences)
        except OutOfTime:
            if index > 0 or self.has_answer:
                raise
            self._finished = True  # the best start is an answer
            return
        self._keep_best(returns)
        if not last:
            self._ascend(gradient, np.isfinite(returns), index)

    def _keep_best(self, returns: NDArray[np.float32]) -> None:
        best = int(np.argmax(returns))
        if returns[best] > self._best.predicted_return:
            self._best = Answer(self._sequences[best].copy(), float(returns[best]), self.objective.prediction(best))

    def _ascend(self, gradient: Actions, finite: np.ndarray, index: int) -> None:
        """One step of Adam in units of half the action range."""
        lost = ~finite | ~np.isfinite(gradient).all(axis=(1, 2))
        scaled = np.where(lost[:, None, None], np.float32(0.0), gradient) * self.half_range
        self._first_moment += np.float32(1.0 - FIRST_DECAY) * (scaled - self._first_moment)
        self._second_moment += np.float32(1.0 - SECOND_DECAY) * (scaled * scaled - self._second_moment)
        first = self._first_moment / np.float32(1.0 - FIRST_DECAY ** (index + 1))
        second = self._second_moment / np.float32(1.0 - SECOND_DECAY ** (index + 1))
        rate = np.float32(self.config.learning_rate) * self.half_range
        self._sequences += rate * first / (np.sqrt(second) + np.float32(EPSILON))
        self._sequences[lost] = self._best.actions
        np.clip(self._sequences, self.lower, self.upper, out=self._sequences)

    def _done(self) -> bool:
        return self._finished

    def _answer(self) -> Answer:
        return self._best
