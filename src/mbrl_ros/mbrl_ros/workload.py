# SPDX-License-Identifier: Apache-2.0
"""How often a node does its work, how long that takes, and how regularly it comes: figures for /diagnostics."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

# Pieces of work that the figures are of.
WINDOW = 500
# Who has done nothing for so long has no rate.
SILENCE = 3.0  # s


class Workload:
    """Counts pieces of work of one kind. Compute time, jitter and missed deadlines are told apart.

    Jitter is by how much the time from one beginning to the next differs from `period` (s), or, where there is none,
    from the median of those times. `clock` is a steady clock in seconds.
    """

    def __init__(self, name: str, period: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.count = 0
        self.missed = 0
        self._period = period
        self._clock = clock
        self._begins: deque[float] = deque(maxlen=WINDOW)
        self._seconds: deque[float] = deque(maxlen=WINDOW)

    def add(self, begin: float, seconds: float, missed: bool = False) -> None:
        """Notes a piece of work: when it began (steady clock, s), how long it took, whether its deadline had passed."""
        self.count += 1
        self.missed += missed
        self._begins.append(begin)
        self._seconds.append(seconds)

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Measures a piece of work."""
        begin = self._clock()
        try:
            yield
        finally:
            self.add(begin, self._clock() - begin)

    def restart(self) -> None:
        """A pause that is nobody's fault lies between what was and what comes."""
        self._begins.clear()

    def figures(self) -> dict[str, Any]:
        """NAME_count, NAME_rate (Hz, 0 = nothing for a while), NAME_compute_ms_p50 and _p99, NAME_jitter_ms_p50 and
        _p99; NaN where there is nothing to tell yet.
        """
        begins = list(self._begins)
        lively = bool(begins) and self._clock() - begins[-1] < SILENCE
        span = begins[-1] - begins[0] if len(begins) > 1 else 0.0
        intervals = [after - before for before, after in pairwise(begins)]
        regular = self._period if self._period is not None else quantile(intervals, 0.5)
        jitter = [abs(interval - regular) * 1e3 for interval in intervals]
        compute = [seconds * 1e3 for seconds in self._seconds]
        figures: dict[str, Any] = {
            f"{self.name}_count": self.count,
            f"{self.name}_rate": (len(begins) - 1) / span if lively and span > 0.0 else 0.0,
        }
        for kind, values in (("compute", compute), ("jitter", jitter)):
            figures[f"{self.name}_{kind}_ms_p50"] = quantile(values, 0.5)
            figures[f"{self.name}_{kind}_ms_p99"] = quantile(values, 0.99)
        return figures


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of them lies; NaN of none. Without numpy, whose first call takes long."""
    if not values:
        return float("nan")
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
