# SPDX-License-Identifier: Apache-2.0
"""The optimism gap: what plans promised, less what the closed loop then really got."""

import heapq
import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class PlanOutcome:
    """A plan for the `horizon` intervals from step `start_step` on: predicted and realised sum of their rewards."""

    start_step: int
    horizon: int
    predicted: float
    realised: float

    @property
    def gap(self) -> float:
        """Optimism: positive when the plan promised more than came."""
        return self.predicted - self.realised


class OptimismRecord:
    """Compares every plan with the rewards of the very intervals that it was for.

    gap = predicted return - sum of the rewards of intervals start_step ... start_step + horizon - 1. What was executed
    in them is not the plan alone: newer plans took over, with the knowledge of later states. A perfect model with a
    planner that goes on improving its plan therefore has a gap below zero, and one above zero is what model error,
    noise, delay and fallback cost the promise. Only whole windows count: one that reaches beyond the time limit or
    an aborted episode, or in which a reward is unknown, is dropped. After a terminal state nothing is earned, in plans
    as in reality, so that windows that reach beyond it are whole.
    """

    WINDOW = 200  # newest outcomes that `mean_gap` is of

    def __init__(self) -> None:
        self.outcomes: list[PlanOutcome] = []  # since `start`
        self.newest: deque[PlanOutcome] = deque(maxlen=self.WINDOW)
        self.dropped = 0
        self._rewards: list[float] = []
        self._waiting: list[tuple[int, int, int, float]] = []  # end of the window, number, start, predicted

    def start(self) -> None:
        """A new episode."""
        self.dropped += len(self._waiting)
        self.outcomes, self._rewards, self._waiting = [], [], []

    def interrupt(self) -> None:
        """The rewards are those of another task from now on: windows under way would mix both."""
        self.dropped += len(self._waiting)
        self._rewards, self._waiting = [math.nan] * len(self._rewards), []

    def add_plan(self, start_step: int, horizon: int, predicted_return: float) -> None:
        """Takes a plan whose row 0 is for interval `start_step`. One that predicts no return is passed over."""
        if math.isfinite(predicted_return) and horizon > 0:
            number = len(self.outcomes) + len(self._waiting)
            heapq.heappush(self._waiting, (start_step + horizon, number, start_step, float(predicted_return)))
            self._settle(len(self._rewards))

    def add_reward(self, step: int, reward: float) -> None:
        """Takes the reward of interval `step`, which ends at time step `step` + 1. Intervals left out are unknown."""
        if step < len(self._rewards):
            return
        self._rewards.extend([math.nan] * (step - len(self._rewards)))
        self._rewards.append(float(reward))
        self._settle(len(self._rewards))

    def finish(self, terminated: bool) -> None:
        """The episode has ended: `terminated` by a terminal state, or otherwise."""
        self._settle(math.inf if terminated else len(self._rewards))
        self.dropped += len(self._waiting)
        self._waiting = []

    @property
    def mean_gap(self) -> float:
        """Mean of the newest outcomes' gaps, over episodes; NaN = none."""
        return math.fsum(item.gap for item in self.newest) / len(self.newest) if self.newest else math.nan

    def _settle(self, known: float) -> None:
        while self._waiting and self._waiting[0][0] <= known:
            end, _, start, predicted = heapq.heappop(self._waiting)
            realised = math.fsum(self._rewards[start:end])
            if not math.isfinite(realised) or start > len(self._rewards):
                self.dropped += 1
                continue
            outcome = PlanOutcome(start, end - start, predicted, realised)
            self.outcomes.append(outcome)
            self.newest.append(outcome)
