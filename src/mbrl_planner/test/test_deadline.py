# SPDX-License-Identifier: Apache-2.0
"""Deadlines, with a clock that the objective moves: nothing here depends on the machine's speed."""

import contextlib

import numpy as np
import pytest
import torch
from analytic import ExactObjective, double_integrator, spec_of
from graph import SPEC, learned_model

from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import make_task
from mbrl_dynamics.propagation import PROPAGATIONS
from mbrl_planner.deadline import DeadlineKeeper
from mbrl_planner.delay import DelayEstimator
from mbrl_planner.expansion import TrajectoryProblem
from mbrl_planner.objective import ModelObjective
from mbrl_planner.pace import BatchClock, IterationClock
from mbrl_planner.planner import Answer, OutOfTime, Planner
from mbrl_planner.registry import PLANNERS, build_planner, configure_planner

KINDS = PLANNERS.names()
START = np.array([1.0, 0.0])


class TimedObjective(ExactObjective):
    """Takes `seconds` of its own clock for every call, or for every iteration of a trajectory optimiser."""

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

    def trajectory_problem(self, spec: RobotSpec) -> TrajectoryProblem:
        self.now += self.seconds
        return super().trajectory_problem(spec)


class DivisibleObjective(TimedObjective):
    """Takes `seconds` of its own clock and `each` for every candidate; can stop in the middle of a call."""

    divisible = True

    def __init__(self, seconds: float, each: float, steps: int = 5) -> None:
        super().__init__(seconds)
        self.each = each
        self.steps = steps
        self.stall: tuple[int, float] | None = None  # the machine stands still in this call from now, so long
        self._part = (0, True)
        self._parts: list[tuple[int, torch.Tensor]] = []

    def part_of_batch(self, first: int, begins: bool) -> None:
        self._part = first, begins

    def trajectory_problem(self, spec: RobotSpec) -> TrajectoryProblem:
        """Each step of a rollout takes its share."""
        problem = ExactObjective.trajectory_problem(self, spec)
        exact = problem._dynamics.step

        def step(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
            self.now += (self.seconds + self.each * len(state)) / self.steps
            return exact(state, action)

        problem._dynamics.step = step  # type: ignore[method-assign]
        return problem

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        (first, begins), self._part = self._part, (0, True)
        for _ in range(self.steps):
            if self.keep_going is not None and not self.keep_going():
                raise OutOfTime("stopped")
            self.now += (self.seconds + self.each * len(actions)) / self.steps
        if self.stall is not None:
            calls, seconds = self.stall
            self.stall = (calls - 1, seconds) if calls else None
            self.now += 0.0 if calls else seconds
        self.sizes.append(len(actions))
        returns = ExactObjective.__call__(self, state, actions)
        self._parts = [*([] if begins else self._parts), (first, self._states.detach())]
        return returns

    def prediction(self, index: int) -> tuple[Array, Array]:
        (mean,) = (states[index - first] for first, states in self._parts if 0 <= index - first < len(states))
        return mean.numpy().astype(np.float64), np.zeros_like(mean, dtype=np.float64)


def divisible(kind: str, seconds: float, each: float, population: int = 100) -> tuple[Planner, DivisibleObjective]:
    objective = DivisibleObjective(seconds, each)
    mapping = {"kind": kind, "horizon": 3, "iterations": 5, "population_size": population}
    name, config = configure_planner(mapping)
    return build_planner(name, config, spec_of(2, 1, 3.0), objective, 0, lambda: objective.now), objective


def timed(kind: str, iterations: int = 5) -> tuple[Planner, TimedObjective]:
    objective = TimedObjective(1.0)
    endless = {"tolerance": 0.0} if kind in ("ilqr", "ddp") else {}
    name, config = configure_planner({"kind": kind, "horizon": 5, "iterations": iterations, **endless})
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fixed", "each"), [(1e-5, 1e-5), (3e-3, 8e-5), (1e-3, 1e-3)])
def test_any_deadline_is_kept_and_the_time_is_used(kind: str, fixed: float, each: float) -> None:
    """Budgets from a few candidates to all of five iterations, each with and without an earlier plan."""
    planner, objective = divisible(kind, fixed, each)
    planner.warm_up(10.0)
    for first in (True, False):
        for budget in np.geomspace(0.005, 1.5, 8):
            planner.reset()
            if not first:
                planner.plan(START, step_key=(0, 0))
            begin = objective.now
            objective.sizes.clear()
            try:
                plan = planner.plan(START, begin + budget, (0, 1))
            except OutOfTime:
                assert first and not planner.in_parts  # not even a first trajectory
                continue
            finally:
                taken = objective.now - begin
            # One step of one evaluation is where it stops at the latest.
            grain = (fixed + each * max(objective.sizes, default=100)) / objective.steps
            assert taken <= budget + min(grain, max(1e-3, 0.05 * budget))
            assert np.isfinite(plan.actions).all()
            if plan.iterations < planner.config.iterations and planner.in_parts:
                # What is left would not have been half of another iteration, or is a part too small to pay.
                whole = fixed + each * 130
                assert budget - taken <= max(0.55 * whole, 6.0 * fixed + each), (budget, taken, objective.sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_that_gets_slower_is_stopped(kind: str) -> None:
    planner, objective = divisible(kind, 1e-3, 1e-4)
    planner.warm_up(10.0)
    planner.plan(START, step_key=(0, 0))
    objective.each *= 30.0
    for step in range(1, 30):
        begin = objective.now
        plan = planner.plan(START, begin + 0.05, (0, step))
        assert objective.now - begin <= 0.05 + (1e-3 + objective.each * 130) / objective.steps
        assert np.isfinite(plan.actions).all()
    objective.each /= 30.0
    done = [planner.plan(START, objective.now + 10.0, (0, 30 + index)).iterations for index in range(100)]
    assert done[-1] == 5 or not planner.in_parts  # trajectory optimisers end when nothing is left to improve


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [True, False])
def test_one_evaluation_that_takes_for_ever_does_not_end_planning(kind: str, first: bool) -> None:
    planner, objective = divisible(kind, 1e-3, 1e-4)
    planner.warm_up(10.0)
    planner.plan(START, step_key=(0, 0))
    if first:
        planner.reset()
    objective.each *= 1000.0
    objective.seconds *= 1000.0
    with contextlib.suppress(OutOfTime):
        planner.plan(START, objective.now + 0.05, (0, 1))
    objective.each /= 1000.0
    objective.seconds /= 1000.0
    done = []
    for step in range(2, 70):
        begin = objective.now
        try:
            done.append(planner.plan(START, begin + 0.05, (0, step)).iterations)
        except OutOfTime:
            done.append(0)
        assert objective.now - begin <= 0.05 + 1e-3
    assert min(done[40:]) >= 1, done


@pytest.mark.parametrize("kind", ["cem", "icem", "mppi", "pddm", "cma_es"])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_stall_in_a_late_iteration_does_not_end_plans_before_it_for_good(kind: str, calls: int) -> None:
    planner, objective = divisible(kind, 1e-3, 1e-5)
    planner.warm_up(10.0)
    for step in range(12):
        assert planner.plan(START, objective.now + 0.02, (0, step)).iterations == 5
    objective.stall = calls, 0.5
    planner.plan(START, objective.now + 0.02, (0, 12))
    assert objective.stall is None
    done = [planner.plan(START, objective.now + 0.02, (0, 13 + index)).iterations for index in range(150)]
    assert done[-1] == 5, done


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_that_has_passed_is_refused_unless_there_is_an_earlier_plan(kind: str) -> None:
    planner, objective = divisible(kind, 1e-3, 1e-4)
    planner.warm_up(10.0)
    with pytest.raises(OutOfTime, match="no time for a first candidate"):
        planner.plan(START, objective.now - 1.0, (0, 0))
    first = planner.plan(START, None, (0, 1))
    plan = planner.plan(START, objective.now - 1.0, (0, 2))
    assert (plan.iterations, plan.deadline_missed) == (0, True)
    np.testing.assert_array_equal(plan.actions[:-1], first.actions[1:])


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_a_batch_in_parts_is_the_same_batch(propagation: str) -> None:
    """The same random numbers in every part, and predictions by the number in the whole batch."""
    model = learned_model()
    actions = torch.rand(20, 6, 1, generator=torch.Generator().manual_seed(1)) - 0.5
    state = np.array([0.1, 0.0, 0.0, 0.0])

    def objective() -> ModelObjective:
        made = ModelObjective(model, make_task("cartpole_tip"), 10, propagation)
        made.start(5)
        return made

    whole, parts = objective(), objective()
    expected = whole(state, actions)
    for function in (parts, lambda *arguments: parts.with_gradient(*arguments)[0]):
        parts.start(5)
        got = torch.empty(20)
        for first, last in ((12, 20), (5, 12), (0, 5)):
            parts.part_of_batch(first, begins=first == 12)
            got[first:last] = function(state, actions[first:last])
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        for index in (0, 5, 11, 19):
            mean, deviation = parts.prediction(index) or (None, None)
            np.testing.assert_allclose(mean, whole.prediction(index)[0], atol=1e-5)  # type: ignore[index]
            np.testing.assert_allclose(deviation, whole.prediction(index)[1], atol=1e-5)  # type: ignore[index]
    # The next batch draws what it would have drawn.
    again = whole(state, actions)
    parts.start(5)
    parts.part_of_batch(0, begins=True)
    parts(state, actions[:3])
    torch.testing.assert_close(parts(state, actions), again, rtol=1e-5, atol=1e-5)


def test_a_rollout_stops_when_it_is_told_to() -> None:
    objective = ModelObjective(learned_model(), make_task("cartpole_tip"), 5, "tsinf")
    actions = torch.zeros(4, 6, 1)
    for allowed in (0, 3, 6, 9):  # six steps forward, six back
        asked = iter([True] * allowed)
        objective.keep_going = lambda asked=asked: next(asked, False)  # type: ignore[misc]
        with pytest.raises(OutOfTime, match=r"stopped at step \d"):
            objective.with_gradient(np.zeros(SPEC.state.size), actions)
    asked = iter([True] * 6)
    objective.keep_going = lambda: next(asked, False)
    assert torch.isfinite(objective(np.zeros(SPEC.state.size), actions)).all()


def test_the_most_promising_candidates_are_evaluated_first() -> None:
    """iCEM keeps elites and the mean at the end of its batch, and evaluates the end when there is no time for all."""
    planner, objective = divisible("icem", 0.0, 1e-3)
    planner.warm_up(10.0)
    best = planner.plan(START, step_key=(0, 0)).predicted_return
    objective.sizes.clear()
    plan = planner.plan(START, objective.now + 0.08, (0, 0))
    assert plan.iterations == 1 and sum(objective.sizes) < 100
    assert plan.predicted_return >= best - 1e-4


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


def test_batch_clock() -> None:
    clock = BatchClock()
    assert not clock.measured and clock.expected(10) == 0.0
    clock.record(10, 1.0)
    assert clock.expected(20) == pytest.approx(2.0) and clock.fitting(0.55) == 5
    clock.calibrate(2, 3.2, 100, 13.0)
    assert clock.expected(50) == pytest.approx(8.0)
    assert clock.fitting(8.001) == 50 and clock.fitting(1.0) == 0
    assert clock.worthwhile(0.5) == 120  # four times what the fixed share costs
    clock.record(50, 16.0)
    assert clock.expected(50) == pytest.approx(16.0)
    clock.record(50, 8.0)
    assert 8.0 < clock.expected(50) < 16.0


def test_without_a_deadline_nothing_is_cut() -> None:
    keeper = DeadlineKeeper(lambda: 0.0)
    objective = DivisibleObjective(1.0, 1.0)
    (returns,) = keeper.evaluate(lambda part: (objective(START, part),), torch.zeros(50, 5, 1), objective)
    assert objective.sizes == [50] and returns.shape == (50,)


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


def test_no_delay_is_longer_than_a_plan_is_valid() -> None:
    delay = DelayEstimator(period=0.04, most_steps=3)
    delay.add(0.4)
    assert delay.steps == 3
    for _ in range(9):
        delay.add(0.03)
    assert delay.steps == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_that_stood_still_at_the_end_of_a_plan_does_not_stop_planning(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner, objective = divisible(kind, 1e-3, 1e-5)
    planner.warm_up(10.0)
    answer = planner._answer

    def stalled() -> Answer:
        objective.now += 1.0
        return answer()

    with monkeypatch.context() as context:
        context.setattr(planner, "_answer", stalled)
        planner.plan(START, objective.now + 0.05, (0, 0))
    done = [planner.plan(START, objective.now + 0.05, (0, step)).iterations for step in range(1, 20)]
    assert sum(count > 0 for count in done) > 10


def test_work_that_nothing_can_stop_is_not_started_too_late() -> None:
    """Nor does an outlier, or a deadline that was always too short for it, make a difference for good."""
    now = 0.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    def begin(seconds: float) -> None:
        keeper.begin(now + seconds, TimedObjective(0.0))

    keeper = DeadlineKeeper(lambda: now)

    def refusals(budget: float) -> int:
        """Until the work is done."""
        for count in range(1000):
            begin(budget)
            try:
                keeper.piece("derivatives", lambda: work(0.3))
                return count
            except OutOfTime:
                pass
        return 1000

    # The first one may be slow for reasons that pass, and so may any other.
    begin(5.0)
    keeper.piece("derivatives", lambda: work(3.0))
    keeper.piece("others", lambda: work(0.6))
    assert 1 < refusals(0.4) < 30
    for _ in range(IterationClock.ENOUGH):
        assert refusals(1.0) < 30
    begin(1.0)
    keeper.piece("derivatives", lambda: work(3.0))
    assert 1 < refusals(0.4) < 30
    # It has never taken less: it is tried once in a long while.
    assert refusals(0.2) == IterationClock.PATIENCE
