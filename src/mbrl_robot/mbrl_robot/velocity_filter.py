# SPDX-License-Identifier: Apache-2.0
"""Velocities of a joint from its positions, and smoother ones from measured ones; stamps may be irregular."""

import math
from collections import deque

LONGEST_PAUSE = 250_000_000  # ns


class LineFit:
    """Slope of the least-squares line through what has come in the last `window` seconds.

    Of all unbiased estimates of a constant velocity from positions with white noise it is the one of least variance
    (Gauss-Markov; where stamps are regular the differentiator of Savitzky and Golay, Analytical Chemistry 36, 1964):
    12 noise^2 / (n window^2) for n samples. A ramp has its exact slope, a motion of constant acceleration the velocity
    of half a window ago. Densely sampled, a sine of angular frequency w comes out half a window late with the gain
    3 (sin x - x cos x) / x^3, x = w window / 2. Angles are unwrapped as they come.
    """

    def __init__(self, window: float, angular: bool) -> None:
        self._window_ns = round(window * 1e9)
        self._angular = angular
        self._samples: deque[tuple[int, float]] = deque()

    def restart(self) -> None:
        """Forgets what has come."""
        self._samples.clear()

    def add(self, stamp_ns: int, position: float) -> float:
        """Takes a position (m or rad) and returns the velocity; 0 while there is only one.

        Where fewer than two samples lie in the window it is the slope between the last two. A sample of the same stamp
        as the last one replaces it; one after a pause of more than LONGEST_PAUSE begins anew.
        """
        samples = self._samples
        if samples and stamp_ns - samples[-1][0] > LONGEST_PAUSE:
            samples.clear()
        if samples and self._angular:
            last = samples[-1][1]
            position = last + math.remainder(position - last, 2.0 * math.pi)
        if samples and stamp_ns <= samples[-1][0]:
            samples.pop()
        samples.append((stamp_ns, position))
        while len(samples) > 2 and samples[0][0] < stamp_ns - self._window_ns:
            samples.popleft()
        return self._slope()

    def _slope(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        # From the newest sample on: large stamps and many turns would cost digits.
        newest_ns, newest = self._samples[-1]
        times = [(stamp_ns - newest_ns) * 1e-9 for stamp_ns, _ in self._samples]
        values = [value - newest for _, value in self._samples]
        middle, mean = sum(times) / len(times), sum(values) / len(values)
        spread = sum((time - middle) ** 2 for time in times)
        return sum((time - middle) * (value - mean) for time, value in zip(times, values, strict=True)) / spread


class Average:
    """Mean over time of what has come in the last `window` seconds, straight lines between samples.

    A ramp comes out half a window late, and exactly; a sine with the gain sin(x) / x, x = w window / 2.
    """

    def __init__(self, window: float) -> None:
        self._window_ns = round(window * 1e9)
        self._samples: deque[tuple[int, float]] = deque()

    def restart(self) -> None:
        """Forgets what has come."""
        self._samples.clear()

    def add(self, stamp_ns: int, value: float) -> float:
        """Takes a value and returns the mean; of what there is, while that is shorter than the window."""
        samples = self._samples
        if samples and stamp_ns <= samples[-1][0]:
            samples.pop()
        samples.append((stamp_ns, value))
        begin_ns = stamp_ns - self._window_ns
        while len(samples) > 1 and samples[1][0] <= begin_ns:
            samples.popleft()
        area, length = 0.0, 0
        for (first_ns, first), (second_ns, second) in zip(list(samples)[:-1], list(samples)[1:], strict=True):
            if first_ns < begin_ns:
                first += (second - first) * (begin_ns - first_ns) / (second_ns - first_ns)
                first_ns = begin_ns
            area += 0.5 * (first + second) * (second_ns - first_ns)
            length += second_ns - first_ns
        return area / length if length else value
