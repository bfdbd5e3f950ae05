# SPDX-License-Identifier: Apache-2.0
"""For which step a plan can still be in time."""

import math
import sys
from collections import deque

import numpy as np


class DelayEstimator:
    """Number of control periods between the sample of a state and the arrival of the plan that answers it.

    An upper quantile of the measured latencies decides, so that most plans come in time; the number rises at once and
    falls only when there is a margin, so that it does not flicker. `period` and `offset` (how long after the sample the
    action of an interval is sent) in seconds. `most_steps` is the robot's `max_open_loop_steps`: a plan that begins
    later is never taken, whenever it comes.
    """

    WINDOW = 50
    QUANTILE = 0.8  # a plan that comes late costs little, the last one has rows left; a longer delay costs always
    MARGIN = 0.1  # of a period

    def __init__(self, period: float, offset: float = 0.0, most_steps: int = sys.maxsize) -> None:
        self._period = period
        self._offset = offset
        self._most_steps = most_steps
        self._latencies: deque[float] = deque(maxlen=self.WINDOW)
        self.steps = self._steps_for(0.5 * period)

    def _steps_for(self, latency: float) -> int:
        return min(max(0, math.ceil((latency - self._offset) / self._period)), self._most_steps)

    def add(self, latency: float) -> None:
        """Takes the latency of one plan, seconds from sample to arrival."""
        self._latencies.append(latency)
        bound = float(np.quantile(np.array(self._latencies), self.QUANTILE))
        needed = self._steps_for(bound)
        if needed > self.steps:
            self.steps = needed
        elif self._steps_for(bound + self.MARGIN * self._period) < self.steps:
            self.steps -= 1
