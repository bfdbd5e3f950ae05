# SPDX-License-Identifier: Apache-2.0
"""Deadlines, with a clock that the objective moves: nothing here depends on the machine's speed."""

import numpy as np
import pytest
import torch
from analytic import ExactObjective, double_integrator, spec_of

from mbrl_core.specs import Array
from mbrl_planner.delay import DelayEstimator
from mbrl_planner.planner import IterationClock, Planner
from mbrl_planner.registry import PLANNERS, build_planner, configure_planner

KINDS = PLANNERS.names()
START = np.array([1.0, 0.0])


class TimedObjective(ExactObjective):
    """Takes `seconds` of its own clock for every call."""

    def __init__(self, seconds: float) -> None:
        exact = double_integrator()
        super().__init__(exact.step, exact.reward)
        self.now = 100.0
        self.seconds = seconds
        self.sizes: list[int] = []

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        self.now += self.seconds
        self.sizes.append(len(actions))
        return super().__call__(state, actions)


def timed(kind: str, iterations: int = 5) -> tuple[Planner, TimedObjective]:
    objective = TimedObjective(1.0)
    name, config = configure_planner({"kind": kind, "horizon": 5, "iterations": iterations})
    return build_planner(name, config, spec_of(2, 1, 3.0), objective, 0, lambda: objective.now), objective


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("budget", "iterations"), [(0.5, 0), (1.5, 1), (3.5, 3), (5.0, 5), (100.0, 5)])
def test_no_iteration_is_started_that_cannot_finish(kind: str, budget: float, iterations: int) -> None:
    planner, objective = timed(kind)
    planner.plan(START, step_key=(0, 0))
    plan = planner.plan(START, objective.now + budget, (0, 1))
    assert (plan.iterations, plan.deadline_missed) == (iterations, False)
    assert np.isfinite(plan.actions).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_anything_to_answer_a_late_plan_is_made_and_reported(kind: str) -> None:
    planner, objective = timed(kind)
    planner.warm_up()
    plan = planner.plan(START, objective.now + 0.5, (0, 0))
    assert (plan.iterations, plan.deadline_missed) == (1, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_that_leaves_time_changes_nothing(kind: str) -> None:
    planner, objective = timed(kind)
    other, _ = timed(kind)
    planner.warm_up()
    in_time = planner.plan(START, objective.now + 100.0, (0, 0))
    np.testing.assert_array_equal(in_time.actions, other.plan(START, None, (0, 0)).actions)


def test_iterations_get_slower_and_planning_still_recovers() -> None:
    planner, objective = timed("icem")
    planner.plan(START, step_key=(0, 0))
    objective.seconds = 50.0
    late = planner.plan(START, objective.now + 6.0, (0, 1))
    assert late.deadline_missed and late.iterations < 5
    objective.seconds = 1.0
    done = [planner.plan(START, objective.now + 6.0, (0, 2 + index)).iterations for index in range(100)]
    assert done[0] == 0 and done[-1] == 5


def test_the_last_iteration_is_known_from_the_clock() -> None:
    """iCEM adds the mean in the last iteration, which under a deadline is the last one that fits."""
    planner, objective = timed("icem")
    planner.plan(START, step_key=(0, 0))
    objective.sizes.clear()
    planner.plan(START, objective.now + 2.5, (0, 1))
    # 60 + 3 kept; 48 + 3 kept + the mean.
    assert objective.sizes == [63, 52]


def test_iteration_clock() -> None:
    clock = IterationClock()
    assert clock.expected(0) == 0.0
    clock.record(0, 2.0)
    assert clock.expected(0) == clock.expected(7) == 2.0
    clock.record(0, 4.0)
    assert clock.expected(0) == 3.0
    clock.record(0, 1.0)
    assert clock.expected(0) == pytest.approx(2.8)
    clock.starved()
    assert clock.expected(0) == pytest.approx(0.9 * 2.8)
    assert clock.total(3) == pytest.approx(3 * 0.9 * 2.8)


def test_delay_follows_the_upper_quantile_without_flicker() -> None:
    delay = DelayEstimator(period=0.04)
    assert delay.steps == 1
    for _ in range(200):
        delay.add(0.025)
    assert delay.steps == 1
    for _ in range(5):
        delay.add(0.05)
    assert delay.steps == 1  # one late plan in ten is no reason to plan for later
    for _ in range(10):
        delay.add(0.05)
    assert delay.steps == 2
    for _ in range(60):
        delay.add(0.0385)  # would fit into one period, but only just
    assert delay.steps == 2
    for _ in range(60):
        delay.add(0.03)
    assert delay.steps == 1


def test_delay_with_an_offset_can_be_none() -> None:
    delay = DelayEstimator(period=0.04, offset=0.03)
    assert delay.steps == 0
    for _ in range(60):
        delay.add(0.035)
    assert delay.steps == 1
