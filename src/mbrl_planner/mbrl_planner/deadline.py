# SPDX-License-Identifier: Apache-2.0
"""Keeps a planner within its deadline: how many iterations, and how many candidates of them, there is time for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from mbrl_planner.errors import OutOfTime
from mbrl_planner.pace import BatchClock, IterationClock

if TYPE_CHECKING:
    from mbrl_planner.planner import Objective

Result = TypeVar("Result")

Evaluate = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
"""Returns [N], and maybe more [N, ...], of candidates [N, H, action_size]."""


class Batches(Protocol):
    """Who evaluates batches; what the two mean `Objective` says."""

    @property
    def divisible(self) -> bool: ...

    def part_of_batch(self, first: int, begins: bool) -> None: ...


class IndependentRows:
    """Batches whose parts need not know of each other."""

    divisible = True

    def part_of_batch(self, first: int, begins: bool) -> None:
        """Nothing changes."""


class DeadlineKeeper:
    """Runs a planner's iterations and its evaluations so that they end by the deadline, in seconds of `clock`.

    Four things do so. No iteration is started of which, as measured, too few candidates would be evaluated in time.
    An evaluation takes as many candidates as are expected to fit, in parts that are at most LARGEST_BET of the time
    that is left until smaller ones would not pay: so an error of the expectation costs little. An objective that can
    stops in the middle of its work. And work that nothing can stop is not started where it is expected to end too late.
    Without a deadline everything is done, in one piece.
    """

    # The least share of an iteration's candidates that it is worth being done for. A plan's first iteration also brings
    # the last plan's answer up to date; what a later one learns from few candidates may be worse than what was known.
    LEAST_SHARE_OF_FIRST = 0.1
    LEAST_SHARE = 0.5
    LARGEST_BET = 0.5
    PIECE_MARGIN = 1.25  # of work that nothing can stop: it is to end in time in all but a few cases
    LAST_BET = 0.85  # of the time left, for a part after which there is none
    UNMEASURED_PARTS = 16  # a batch is cut into so many while nothing is known about the time that it takes
    GRAIN = 0.0005  # seconds; or this share of the budget if that is longer: parts are not cut smaller
    GRAIN_SHARE = 0.025
    FEW = 2  # candidates of the smaller evaluation of a calibration
    MANY = 128  # and of the larger one at most

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pace = IterationClock()
        self._first_pace = IterationClock()  # of an iteration that has no earlier plan to go on from: it may do more
        self._ending = IterationClock()  # from the end of the last evaluation to that of the plan
        self._batches: dict[str, BatchClock] = {}
        self._pieces: dict[str, IterationClock] = {}  # of work that nothing can stop
        self._limit: float | None = None  # until when the present plan may evaluate
        self._grain = self.GRAIN
        self._anything_helps = False  # there is nothing to answer yet
        self._least_share = self.LEAST_SHARE  # that the present iteration needs
        self.share = 1.0  # of the present iteration's candidates that were evaluated
        self._stop_early = 0.0  # seconds before the limit at which an objective is told to stop
        self._evaluated = 0.0  # when the last evaluation ended
        self._to_calibrate: dict[str, tuple[Evaluate, torch.Tensor]] | None = None

    def expected_seconds(self, iterations: int) -> float:
        """Time that `iterations` whole iterations are expected to take; 0 before the first one."""
        return self._pace.total(iterations) or self._first_pace.total(iterations)

    def forget(self) -> None:
        """Forgets all measurements."""
        self._batches.clear()
        self._pieces.clear()
        for clock in (self._pace, self._first_pace, self._ending):
            clock.clear()

    def begin(self, deadline: float | None, objective: Objective) -> None:
        """A plan begins."""
        self._limit = objective.keep_going = None
        if deadline is not None:
            left = deadline - self._clock()
            # One ending that the machine stood still in must not keep later plans from starting at all.
            self._limit = deadline - min(self._ending.expected(0), self.LARGEST_BET * max(left, 0.0))
            self._grain = max(self.GRAIN, self.GRAIN_SHARE * left)
            objective.keep_going = self.keep_going

    def end(self, objective: Objective, answered: bool) -> None:
        """The plan has ended; `answered` with an answer of its own."""
        self._limit = objective.keep_going = None
        if answered:
            self._ending.record(0, self._clock() - self._evaluated)

    def keep_going(self) -> bool:
        """Whether there is time left for evaluations."""
        return self._limit is None or self._clock() < self._limit - self._stop_early

    def piece(self, name: str, work: Callable[[], Result]) -> Result:
        """What `work` returns, which nothing can stop. Raises OutOfTime where it is expected to end after the limit.

        `name` keeps the measurements of different work apart.
        """
        clock, started = self._pieces.setdefault(name, IterationClock()), self._clock()
        if self._limit is not None and started + self.PIECE_MARGIN * clock.expected(0) > self._limit:
            clock.starved()
            raise OutOfTime(f"the deadline leaves no time for {name}")
        result = work()
        clock.record(0, self._clock() - started)
        return result

    def iterate(
        self,
        iterations: int,
        iterate: Callable[[int, bool], None],
        divisible: bool,
        warm: bool,
        done: Callable[[], bool],
    ) -> int:
        """Calls `iterate(index, last)` up to `iterations` times, fewer once `done` after one of them; returns how often
        it came to its end.

        Without a warm start the first one is always begun.
        """
        least = self.LEAST_SHARE if divisible else 1.0
        least_of_first = self.LEAST_SHARE_OF_FIRST if divisible else 1.0
        for index in range(iterations):
            started = self._clock()
            last = index == iterations - 1
            self._anything_helps = index == 0 and not warm
            pace = self._first_pace if self._anything_helps else self._pace
            expected = pace.expected(index)
            if self._limit is not None:
                self._least_share = least if index else least_of_first
                if started + self._least_share * expected > self._limit and not self._anything_helps:
                    if index == 0:
                        self._starved()
                    else:
                        pace.skipped(index)
                    return index
                last = last or started + expected + least * self._pace.expected(index + 1) > self._limit
            self.share, self._evaluated = 1.0, started
            try:
                iterate(index, last)
            except OutOfTime:
                pace.record(index, max(self._clock() - started, expected))
                if not divisible:
                    self._evaluated = self._clock()
                return index
            if self._evaluated == started or not divisible:
                self._evaluated = self._clock()  # an iteration that is done as a whole evaluates until its end
            taken = self._clock() - started
            # An iteration that made do with what it had before an evaluation that came to nothing says only "longer".
            pace.record(index, taken / self.share if self.share > 0.0 else max(taken, expected))
            if done():
                return index + 1
        return iterations

    def _starved(self) -> None:
        for clock in (self._pace, self._ending):
            clock.starved()
        for batch in self._batches.values():
            batch.starved()

    def evaluate(
        self,
        evaluate: Evaluate,
        candidates: torch.Tensor,
        objective: Batches,
        last_first: bool = False,
        name: str = "returns",
        within: float | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """What `evaluate` says of candidates [N, H, action_size]: returns [N], which are -inf where time ran out, and
        maybe more [N, ...], zero there. `name` keeps the measurements of different functions apart.

        With `last_first` the first candidates are those that may be left out, else the last ones. Raises OutOfTime when
        too few were evaluated to learn from. `within` is for candidates of which some will do: they get this share of
        the time that is left, and one is enough.
        """
        if within is None:
            return self._evaluate(evaluate, candidates, objective, last_first, name, self._least_share)
        limit = self._limit
        if limit is not None:
            now = self._clock()
            self._limit = min(limit, now + within * (limit - now))
        try:
            return self._evaluate(evaluate, candidates, objective, last_first, name, 0.0)
        finally:
            self._limit, self.share = limit, 1.0

    def _evaluate(
        self,
        evaluate: Evaluate,
        candidates: torch.Tensor,
        objective: Batches,
        last_first: bool,
        name: str,
        least_share: float,
    ) -> tuple[torch.Tensor, ...]:
        clock, needed = self._batches.setdefault(name, BatchClock()), self._anything_helps
        if self._to_calibrate is not None:
            self._to_calibrate[name] = evaluate, candidates[: self.MANY]
        count, done, tried = len(candidates), 0, False
        results: tuple[torch.Tensor, ...] = ()
        while done < count and (size := self._part_size(count - done, clock, objective, done == 0)) > 0:
            first = count - done - size if last_first else done
            if size < count:
                objective.part_of_batch(first, begins=done == 0)
            started, tried = self._clock(), True
            # A first answer is worth the risk of being late by what stopping takes.
            first_answer = done == 0 and self._anything_helps
            self._stop_early = 0.0 if first_answer else clock.stopping.expected(0)
            try:
                values = evaluate(candidates[first : first + size])
            except OutOfTime:
                self._stopped(clock, size, started)
                break
            clock.record(size, self._clock() - started)
            done += size
            if size == count:
                results = values
                break
            if not results:
                results = tuple(value.new_zeros(count, *value.shape[1:]) for value in values)
                results[0].fill_(-torch.inf)
            for result, value in zip(results, values, strict=True):
                result[first : first + size] = value
        self._evaluated = self._clock()
        self.share = min(self.share, done / count)
        if done > 0:
            self._anything_helps = False
        elif not tried:
            clock.starved()  # or one evaluation that the machine stood still in would end all planning
        if done == 0 or (self.share < least_share and not needed):
            raise OutOfTime(f"the deadline left time for {done} of {count} candidates")
        return results

    def _stopped(self, clock: BatchClock, size: int, started: float) -> None:
        now = self._clock()
        clock.record(size, max(now - started, clock.expected(size)))
        if self._limit is not None:
            late = now - (self._limit - self._stop_early)
            clock.stopping.record(0, min(max(late, 0.0), self.LARGEST_BET * (self._limit - started)))

    def _part_size(self, left: int, clock: BatchClock, objective: Batches, begins: bool) -> int:
        """How many of `left` candidates to evaluate next; 0 when there is no time for any."""
        if self._limit is None:
            return left
        remaining = self._limit - self._clock()
        if remaining <= 0.0:
            return 0
        if not objective.divisible:
            return left
        few = -(-left // self.UNMEASURED_PARTS)
        if not clock.measured:
            return few
        if begins and self._anything_helps:  # a few candidates come first: then there is an answer
            return max(1, min(few, clock.fitting(self.LARGEST_BET * remaining)))
        bet = self.LARGEST_BET * remaining
        if clock.expected(left) <= bet:
            return left
        size = min(left, max(clock.fitting(bet), clock.worthwhile(self._grain)))
        if clock.expected(size) > self.LAST_BET * remaining:
            size = clock.fitting(self.LAST_BET * remaining)
        return size

    @contextmanager
    def calibration(self) -> Iterator[None]:
        """Measures afterwards how long few and many candidates take of the evaluations that are made within."""
        self._to_calibrate = {}
        try:
            yield
            functions = self._to_calibrate
        finally:
            self._to_calibrate = None
        for name, (evaluate, candidates) in functions.items():
            if len(candidates) > self.FEW:
                few, many = self._seconds(evaluate, candidates[: self.FEW]), self._seconds(evaluate, candidates)
                self._batches[name].calibrate(self.FEW, few, len(candidates), many)

    def _seconds(self, evaluate: Evaluate, candidates: torch.Tensor) -> float:
        """The least of three durations: what made one slower than the best is no property of the evaluation."""
        times = [self._clock()]
        for _ in range(3):
            with torch.inference_mode():
                evaluate(candidates)
            times.append(self._clock())
        return min(end - begin for begin, end in pairwise(times))
