# SPDX-License-Identifier: Apache-2.0
"""How long planning takes, as measured: what keeps a planner within its deadline."""


class IterationClock:
    """Measured duration of each iteration of a plan: an upper quantile, which rises fast and falls slowly.

    A planner asks it before every iteration, so that none is started that cannot finish in time.
    """

    RISE = 0.5  # share of the gap closed by one slower iteration
    FALL = 0.1  # and by one faster iteration
    FORGET = 0.9  # factor after a plan that had no time at all: one slow outlier must not stop planning for good
    UNSEEN = 0.97  # the same after a plan that ended before an iteration, for want of time: nothing measures it then
    ENOUGH = 8  # measurements of which the least is what an iteration does take, when nothing disturbs it
    PATIENCE = 200  # plans without time in a row, after which one is tried all the same: the machine may be another

    def __init__(self) -> None:
        self._bounds: list[float] = []
        self._least: list[float] = []
        self._counts: list[int] = []
        self._starved = 0

    def expected(self, index: int) -> float:
        """Seconds that iteration `index` is expected to take; 0 while nothing has been measured."""
        if not self._bounds:
            return 0.0
        return self._bounds[min(index, len(self._bounds) - 1)]

    def record(self, index: int, seconds: float) -> None:
        """Takes the measured duration of iteration `index`."""
        if index >= len(self._bounds):
            self._bounds.append(seconds)
            self._least.append(seconds)
            self._counts.append(1)
            return
        self._starved = 0
        self._counts[index] += 1
        self._least[index] = min(self._least[index], seconds)
        gap = seconds - self._bounds[index]
        self._bounds[index] += (self.RISE if gap > 0.0 else self.FALL) * gap

    def total(self, iterations: int) -> float:
        """Seconds that `iterations` iterations are expected to take."""
        return sum(self.expected(index) for index in range(iterations))

    def clear(self) -> None:
        """Forgets all measurements."""
        self._bounds, self._least, self._counts, self._starved = [], [], [], 0

    def starved(self) -> None:
        """Takes note that a plan could not do a single iteration: what is expected falls, to the least measured."""
        self._starved += 1
        if self._starved >= self.PATIENCE:
            self._bounds = [0.0] * len(self._bounds)
            self._starved = 0
            return
        for index in range(len(self._bounds)):
            self._fall(index, self.FORGET)

    def skipped(self, index: int) -> None:
        """Takes note that a plan ended before iteration `index`: what is expected of it falls, to the least ever."""
        if index < len(self._bounds):
            self._fall(index, self.UNSEEN)

    def _fall(self, index: int, factor: float) -> None:
        floor = self._least[index] if self._counts[index] >= self.ENOUGH else 0.0
        self._bounds[index] = max(factor * self._bounds[index], floor)


class BatchClock:
    """Measured duration of an evaluation as a function of how many candidates it has: scale * (fixed + each * count).

    `fixed` and `each` (seconds) come from one calibration; `scale` follows what is measured later, an upper quantile
    that rises fast and falls slowly, since a machine that is busy slows large and small evaluations alike.
    """

    WORTHWHILE = 4.0  # the least size of a part is where its candidates take so many times its fixed share

    def __init__(self) -> None:
        self._fixed = 0.0
        self._each = 0.0
        self._scale = IterationClock()
        self.stopping = IterationClock()  # from when an evaluation is told to stop until it has stopped

    @property
    def measured(self) -> bool:
        """Whether anything is known."""
        return self._each > 0.0

    def calibrate(self, few: int, seconds_of_few: float, many: int, seconds_of_many: float) -> None:
        """Takes the durations of two evaluations of `few` < `many` candidates."""
        self._each = max((seconds_of_many - seconds_of_few) / (many - few), 1e-9)
        self._fixed = max(seconds_of_few - few * self._each, 0.0)
        self._scale.clear()

    def record(self, count: int, seconds: float) -> None:
        """Takes the measured duration of an evaluation of `count` candidates."""
        if not self.measured:
            self._each = max(seconds / count, 1e-9)
        self._scale.record(0, seconds / (self._fixed + self._each * count))

    def expected(self, count: int) -> float:
        """Seconds that `count` candidates are expected to take; 0 while nothing has been measured."""
        return (self._scale.expected(0) or 1.0) * (self._fixed + self._each * count)

    def fitting(self, seconds: float) -> int:
        """How many candidates are expected to be evaluated within `seconds`; at least 0."""
        return max(0, int((seconds / (self._scale.expected(0) or 1.0) - self._fixed) / self._each))

    def worthwhile(self, seconds: float) -> int:
        """The least number of candidates that is worth an evaluation of its own where parts of `seconds` are wanted."""
        return max(1, self.fitting(seconds), round(self.WORTHWHILE * self._fixed / self._each))

    def starved(self) -> None:
        """Takes note that not a single candidate was evaluated."""
        self._scale.starved()
        self.stopping.starved()
