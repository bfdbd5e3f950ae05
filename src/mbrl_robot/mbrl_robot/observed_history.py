# SPDX-License-Identifier: Apache-2.0
"""What everybody sees of a robot, tick by tick of an episode."""

import numpy as np

from mbrl_core.observation import Observation
from mbrl_core.specs import Array


class ObservedHistory:
    """Keeps the state [state_size] of the newest tick; observations are those of ticks, a control period apart."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._irregular_for = 0
        self.state: Array = observation.first(np.zeros(observation.whole.size))

    def begin(self, whole: Array, action: Array) -> None:
        """First tick of an episode, in a whole state [whole_size] after `action` [action_size]; they fill it."""
        self.state = self._observation.first(whole, action)
        self._irregular_for = 0

    def follow(self, whole: Array, action: Array, missed: int) -> bool:
        """The next tick after `action`, before which so many were `missed`.

        Returns whether the interval that ends here can be learned from. A history with a missed tick in it tells of
        other times than it says, until that has gone through.
        """
        if missed and self._observation.history > 1:
            self._irregular_for = self._observation.history
        self.state = self._observation.following(self.state, whole, action)
        regular = self._irregular_for == 0
        self._irregular_for = max(0, self._irregular_for - 1)
        return regular
