# SPDX-License-Identifier: Apache-2.0
"""How fast a robot's control periods pass on the steady clock: a simulator need not keep to real time."""

import statistics
from collections import deque

WINDOW = 20
FEWEST = 3
# Closer to 1 than this is real time, with jitter.
DEAD_BAND = 0.1
SLOWEST, FASTEST = 0.05, 20.0


class RealTimeFactor:
    """Control time per steady time: the median over the newest pairs of consecutive time steps.

    1 until enough is known, and where it is near 1.
    """

    def __init__(self, period: float) -> None:
        """Takes the control period, seconds."""
        self._period_ns = period * 1e9
        self._last: tuple[int, int, int] | None = None
        self._factors: deque[float] = deque(maxlen=WINDOW)
        self.value = 1.0

    def add(self, episode: int, step: int, sample_time_ns: int) -> None:
        """Takes the steady time, nanoseconds, at which the state of a time step was sampled."""
        last, self._last = self._last, (episode, step, sample_time_ns)
        # The first interval of an episode waits for the first plan.
        if last is None or last[0] != episode or step <= last[1] or sample_time_ns <= last[2] or last[1] == 0:
            return
        self._factors.append((step - last[1]) * self._period_ns / (sample_time_ns - last[2]))
        if len(self._factors) >= FEWEST:
            factor = statistics.median(self._factors)
            self.value = 1.0 if abs(factor - 1.0) <= DEAD_BAND else min(max(factor, SLOWEST), FASTEST)
