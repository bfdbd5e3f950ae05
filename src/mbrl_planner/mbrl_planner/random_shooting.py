# SPDX-License-Identifier: Apache-2.0
"""Random shooting: the best of many random action sequences."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.planner import Actions, Answer, Planner, PlannerConfig
from mbrl_planner.registry import PLANNERS


@dataclass(frozen=True)
class RandomShootingConfig(PlannerConfig):
    """Parameters of random shooting. `iterations` batches of `population_size` are drawn, so that a deadline
    can cut in.
    """

    hold: int = parameter(
        1, "steps for which a drawn action is held; 1 draws anew at every step", minimum=1, maximum=1000
    )


@PLANNERS.register("random_shooting", RandomShootingConfig)
class RandomShooting(Planner):
    """Random shooting of Nagabandi et al. 2018 (arXiv:1708.02596, eq. 4): actions uniform within the limits, the best
    sequence is executed. The best sequence of the last plan, shifted, is a candidate too.
    """

    kind = "random_shooting"
    config: RandomShootingConfig

    def reset(self) -> None:
        super().reset()
        self._warm: Actions | None = None
        self._best = Answer(self._central_actions(), -np.inf)

    def _begin(self, passed: int) -> None:
        if self._previous_actions is not None:
            self._warm = self._shifted(self._previous_actions, passed)
        self._best = Answer(self._central_actions(), -np.inf)

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        config = self.config
        draws = -(-config.horizon // config.hold)
        size = (config.population_size, draws, self.spec.action.size)
        candidates = self.random.random(size, dtype=np.float32)
        candidates *= self.upper - self.lower
        candidates += self.lower
        if config.hold > 1:
            candidates = np.ascontiguousarray(np.repeat(candidates, config.hold, axis=1)[:, : config.horizon])
        if index == 0 and self._warm is not None:
            candidates[0] = self._warm
        returns = self._evaluate(state, candidates)
        best = int(returns.argmax())
        if returns[best] > self._best.predicted_return:
            self._best = Answer(candidates[best].copy(), float(returns[best]), self.objective.prediction(best))

    def _answer(self) -> Answer:
        return self._best
