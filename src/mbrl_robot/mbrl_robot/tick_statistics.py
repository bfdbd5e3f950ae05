# SPDX-License-Identifier: Apache-2.0
"""How well the control clock keeps time, and who served: figures for /diagnostics."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

# Ticks that percentiles are taken over.
WINDOW = 500


class TickStatistics:
    """Counts ticks. Times in seconds; percentiles over the newest WINDOW ticks."""

    def __init__(self, period: float) -> None:
        self._period = period
        self.ticks = 0
        self.missed = 0
        self.late = 0
        self.irregular = 0
        self.fallback = 0
        self._compute_times: deque[float] = deque(maxlen=WINDOW)
        self._lateness: deque[float] = deque(maxlen=WINDOW)
        self._sample_ages: deque[float] = deque(maxlen=WINDOW)
        self._row_ages: deque[int] = deque(maxlen=WINDOW)
        self._times: deque[float] = deque(maxlen=WINDOW)
        # The first percentile of a process imports numpy.ma, for tens of milliseconds: now, not between two ticks.
        np.percentile([0.0], 50)

    def tick(self, time: float, lateness: float, sample_age: float, missed: int) -> None:
        """Notes a tick: its steady time, how late it came, how old its sample was, and how many ticks were left out."""
        self.ticks += 1
        self.missed += missed
        self.late += lateness > 0.1 * self._period
        self._times.append(time)
        self._lateness.append(lateness)
        self._sample_ages.append(sample_age)

    def timed(self, tick: Callable[[], None]) -> Callable[[], None]:
        """The same function, which notes how long it takes."""

        def measured() -> None:
            begin = time.monotonic()
            tick()
            self._compute_times.append(time.monotonic() - begin)

        return measured

    def served(self, fallback: bool, row_age: int) -> None:
        """Notes who served an interval."""
        self.fallback += fallback
        self._row_ages.append(row_age)

    def restart(self) -> None:
        """A new episode: the pause before it does not count for the rate."""
        self._times.clear()

    def figures(self) -> dict[str, Any]:
        """Figures by name, times in milliseconds, rate in hertz; NaN where there is nothing to tell yet."""
        figures: dict[str, Any] = {
            "ticks": self.ticks,
            "missed_ticks": self.missed,
            "late_ticks": self.late,
            "irregular_ticks": self.irregular,
            "fallback_ticks": self.fallback,
            "control_rate": math.nan,
        }
        if len(self._times) > 1:
            figures["control_rate"] = (len(self._times) - 1) / (self._times[-1] - self._times[0])
        kinds = {
            "tick_compute_ms": self._compute_times, "tick_jitter_ms": self._lateness,
            "sample_age_ms": self._sample_ages,
        }  # fmt: skip
        for name, values in kinds.items():
            median, high = np.percentile(values or [math.nan], [50, 99]) * 1e3
            figures[f"{name}_p50"], figures[f"{name}_p99"] = float(median), float(high)
        figures["row_age_p99"] = float(np.percentile(self._row_ages or [math.nan], 99))
        return figures
