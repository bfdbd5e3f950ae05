# SPDX-License-Identifier: Apache-2.0
"""Figures of the solves: compute time and missed deadlines are told apart."""

import math
import time
from collections import deque
from typing import Any

import numpy as np

from mbrl_ros.workload import Workload

RATE_AND_JITTER = ("plan_rate", "plan_jitter_ms_p50", "plan_jitter_ms_p99")


class SolveStatistics:
    """Compute times over the last `WINDOW` plans, and counts since the start."""

    WINDOW = 500

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=self.WINDOW)
        self._work = Workload("plan")
        self._iterations: deque[int] = deque(maxlen=self.WINDOW)
        self.plans = 0
        self.missed = 0

    def add(self, seconds: float, iterations: int, missed: bool) -> None:
        """Takes one plan: seconds of computation, optimiser iterations done, whether the deadline had passed."""
        self._seconds.append(seconds)
        self._work.add(time.monotonic() - seconds, seconds)
        self._iterations.append(iterations)
        self.plans += 1
        self.missed += missed

    def figures(self) -> dict[str, Any]:
        """Names and values for diagnostics."""
        figures: dict[str, Any] = {"plans": self.plans, "missed_deadlines": self.missed}
        figures |= {name: value for name, value in self._work.figures().items() if name in RATE_AND_JITTER}
        figures |= {"solve_time_p50_s": math.nan, "solve_time_p99_s": math.nan, "iterations_mean": math.nan}
        if self._seconds:
            median, high = np.quantile(np.array(self._seconds), [0.5, 0.99])
            figures["solve_time_p50_s"] = float(median)
            figures["solve_time_p99_s"] = float(high)
            figures["iterations_mean"] = float(np.mean(np.array(self._iterations)))
        return figures
