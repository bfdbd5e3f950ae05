# SPDX-License-Identifier: Apache-2.0
"""Random exploration: uniform actions within the limits, the same for a step whoever asks and however often."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.random_streams import generator
from mbrl_core.specs import ActionSpec, Array


@dataclass(frozen=True)
class ExplorationConfig:
    """How actions are drawn."""

    seed: int = parameter(0, "Keys the random streams", minimum=0)
    hold: int = parameter(4, "Steps for which an action is held", minimum=1)
    scale: float = parameter(1.0, "Share of the range between the limits, around its middle", minimum=0.0, maximum=1.0)
    rows: int = parameter(
        4, "Rows in a plan, from the step that it answers: a late answer still serves", minimum=1, maximum=1000
    )


class RandomExploration:
    """Uniform random actions. That of a step depends on (seed, episode, step) alone, so plans that overlap agree."""

    def __init__(self, config: ExplorationConfig, action: ActionSpec) -> None:
        self.config = config
        lower, upper = np.array(action.lower), np.array(action.upper)
        self._middle = (lower + upper) / 2.0
        self._half_range = (upper - lower) / 2.0 * config.scale

    def actions(self, episode: int, step: int) -> Array:
        """Actions of steps step, step + 1, ... [rows, action_size], normalised units."""
        return np.stack([self._action(episode, step + row) for row in range(self.config.rows)])

    def _action(self, episode: int, step: int) -> Array:
        block = step // self.config.hold
        random = generator(self.config.seed, episode, block * self.config.hold, "explore")
        return self._middle + self._half_range * random.uniform(-1.0, 1.0, len(self._middle))
