# SPDX-License-Identifier: Apache-2.0
"""Which plans are taken, and whose row serves a step."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.messages import Plan
from mbrl_core.robot_file import load_robot
from mbrl_robot.executor import SAFE, AddressedPlan, PlanExecutor, PlanRefused

CARTPOLE = load_robot(Path(__file__).parents[3] / "config" / "robots" / "cartpole.yaml")
SPEC = CARTPOLE.spec
STATE = np.zeros(SPEC.state.size)
OLDEST = SPEC.max_open_loop_steps


def make_plan(
    start: int, answers: int, rows: int = 5, controller: str = "planner", value: float = 0.0, episode: int = 1
) -> AddressedPlan:
    """Row i of the plan is `value` + i / 10."""
    actions = value + np.arange(rows, dtype=float)[:, None] / 10.0
    return AddressedPlan(Plan(actions), controller, episode, start, answers)


@pytest.fixture
def executor() -> PlanExecutor:
    """An executor whose episode 1 has begun, the planner selected."""
    executor = PlanExecutor(SPEC, ("planner",))
    executor.begin_episode(1)
    return executor


def action_at(executor: PlanExecutor, step: int) -> float | None:
    """Action of a step, None for the safe action."""
    row = executor.choose(step, STATE)
    return None if row is None else float(row.action[0])


def test_rows_are_keyed_by_step(executor: PlanExecutor) -> None:
    executor.accept(make_plan(start=3, answers=2), newest_step=2, next_step=3)
    assert action_at(executor, 2) is None
    assert action_at(executor, 3) == pytest.approx(0.0)
    assert action_at(executor, 5) == pytest.approx(0.2)


def test_future_plan_does_not_evict_the_current_one(executor: PlanExecutor) -> None:
    executor.accept(make_plan(start=3, answers=3, value=1.0), newest_step=3, next_step=3)
    executor.accept(make_plan(start=6, answers=4, value=2.0), newest_step=4, next_step=4)
    assert action_at(executor, 5) == pytest.approx(1.2)
    assert action_at(executor, 6) == pytest.approx(2.0)


def test_rows_too_old_are_not_served(executor: PlanExecutor) -> None:
    executor.accept(make_plan(start=0, answers=0, rows=20), newest_step=0, next_step=0)
    row = executor.choose(OLDEST, STATE)
    assert row is not None and row.age == OLDEST
    assert executor.choose(OLDEST + 1, STATE) is None


def test_chain_serves_in_order_and_ends_in_safe(executor: PlanExecutor) -> None:
    executor.select("policy")
    assert executor.chain == ("policy", "planner", SAFE)
    executor.accept(make_plan(0, 0, rows=3), newest_step=0, next_step=0)
    executor.accept(make_plan(0, 0, rows=1, controller="policy", value=2.0), newest_step=0, next_step=0)
    rows = [executor.choose(step, STATE) for step in range(4)]
    assert [row.controller if row else SAFE for row in rows] == ["policy", "planner", "planner", SAFE]
    executor.select(SAFE)
    assert executor.choose(0, STATE) is None


def test_delay_hides_newer_answers(executor: PlanExecutor) -> None:
    for step in range(3):
        executor.accept(make_plan(step, step, value=float(step)), newest_step=step, next_step=step)
    row = executor.choose(2, STATE, newest_answer=1)
    assert row is not None and row.age == 1
    assert row.action[0] == pytest.approx(1.1)


def test_gains_act_on_the_wrapped_difference(executor: PlanExecutor) -> None:
    states = np.zeros((2, 4))
    states[0, 1] = np.pi - 0.1
    gains = np.zeros((1, 1, 4))
    gains[0, 0] = [1.0, 10.0, 0.0, 0.5]
    plan = Plan(np.array([[0.25]]), predicted_states=states, gains=gains)
    executor.accept(AddressedPlan(plan, "planner", 1, 0, 0), newest_step=0, next_step=0)
    # 0.2 rad further on the other side of pi.
    row = executor.choose(0, np.array([0.5, -np.pi + 0.1, 0.0, 2.0]))
    assert row is not None
    assert row.action[0] == pytest.approx(0.25 + 0.5 + 10.0 * 0.2 + 1.0)


def test_overflowing_gains_are_not_served(executor: PlanExecutor) -> None:
    gains = np.full((1, 1, 4), 1e308)
    plan = Plan(np.zeros((1, 1)), predicted_states=np.zeros((2, 4)), gains=gains)
    executor.accept(AddressedPlan(plan, "planner", 1, 0, 0), newest_step=0, next_step=0)
    assert executor.choose(0, np.full(4, 1e3)) is None


def test_better_answer_to_the_same_step_replaces_the_earlier(executor: PlanExecutor) -> None:
    executor.accept(make_plan(1, 1, value=1.0), newest_step=1, next_step=1)
    executor.accept(make_plan(1, 1, value=2.0), newest_step=1, next_step=1)
    assert action_at(executor, 1) == pytest.approx(2.0)


def test_new_episode_forgets_plans(executor: PlanExecutor) -> None:
    executor.accept(make_plan(0, 0), newest_step=0, next_step=0)
    executor.begin_episode(2)
    assert action_at(executor, 0) is None


WRONG_ROWS = Plan(np.zeros((2, 3)))
NOT_FINITE = Plan(np.array([[0.0], [np.inf]]))
WRONG_GAINS = Plan(np.zeros((1, 1)), predicted_states=np.zeros((2, 4)), gains=np.zeros((1, 2, 4)))
NAN_STATES = Plan(np.zeros((1, 1)), predicted_states=np.full((2, 4), np.nan))


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (make_plan(5, 5, controller="nobody"), "unknown_controller"),
        (make_plan(5, 5, controller=SAFE), "unknown_controller"),
        (make_plan(5, 5, episode=2), "other_episode"),
        (dataclasses.replace(make_plan(5, 5), plan=WRONG_ROWS), "wrong_shape"),
        (dataclasses.replace(make_plan(5, 5), plan=WRONG_GAINS), "wrong_shape"),
        (dataclasses.replace(make_plan(5, 5), plan=NOT_FINITE), "non_finite"),
        (dataclasses.replace(make_plan(5, 5), plan=NAN_STATES), "non_finite"),
        (make_plan(6, 6), "from_the_future"),
        (make_plan(5 + OLDEST + 1, 5), "far_ahead"),
        (make_plan(4294967295, 5), "far_ahead"),
        (make_plan(0, 4, rows=5), "out_of_date"),
        (make_plan(0, 1, rows=50), "out_of_date"),
        (make_plan(4, 3), "superseded"),
    ],
)
def test_refusals(executor: PlanExecutor, plan: AddressedPlan, reason: str) -> None:
    executor.accept(make_plan(4, 4, value=1.0), newest_step=4, next_step=4)
    with pytest.raises(PlanRefused) as refusal:
        executor.accept(plan, newest_step=5, next_step=5)
    assert refusal.value.reason == reason
    assert "expected" in str(refusal.value) or reason == "non_finite"
    assert action_at(executor, 5) == pytest.approx(1.1), "a refused plan must leave the one in force alone"


def test_unknown_controller_is_named_with_the_known() -> None:
    with pytest.raises(ValueError, match="'nobody'.*planner, planner_b, .*, teleop, delay_probe, safe"):
        PlanExecutor(SPEC, ("planner",)).select("nobody")


def test_memory_is_bounded(executor: PlanExecutor) -> None:
    for step in range(500):
        for start in range(OLDEST + 1):
            executor.accept(make_plan(step + start, step), newest_step=step, next_step=step)
    assert len(executor._plans["planner"]) <= (OLDEST + 1) * (OLDEST + 2)


def uncertain_plan(std: list[float], answers: int = 0, start: int = 0, controller: str = "planner") -> AddressedPlan:
    """A plan with one row less than `std` has entries: the spread of the first state."""
    spread = np.zeros((len(std), 4))
    spread[:, 1] = std
    actions = np.full((len(std) - 1, 1), 0.1 * (answers + 1))
    plan = Plan(actions, predicted_states=np.zeros((len(std), 4)), predicted_std=spread)
    return AddressedPlan(plan, controller, 1, start, answers)


def bounded_executor() -> PlanExecutor:
    """Planner and policy on the cart-pole; the hinge may be uncertain by 0.5 rad."""
    executor = PlanExecutor(SPEC, ("planner", "policy"), np.array([np.inf, 0.5, np.inf, np.inf]))
    executor.begin_episode(1)
    return executor


def test_a_plan_serves_until_its_first_row_that_is_too_uncertain() -> None:
    executor = bounded_executor()
    executor.accept(uncertain_plan([9.0, 0.1, 0.5, 0.6, 0.1]), 0, 0)
    served = [executor.choose(step, np.zeros(4)) for step in range(4)]
    assert [row is not None for row in served] == [True, True, False, False]
    assert executor.planned(2) is None
    assert executor.uncertain_plans == 1
    assert not executor.is_uncertain("planner", 1) and executor.is_uncertain("planner", 2)


def test_the_next_in_the_chain_serves_and_an_older_plan_does_not_stand_in() -> None:
    executor = bounded_executor()
    executor.accept(uncertain_plan([0.0, 0.1, 0.1, 0.1]), 0, 0)
    executor.accept(uncertain_plan([0.0, 2.0, 2.0], answers=1, start=1), 1, 1)
    assert executor.choose(1, np.zeros(4)) is None
    assert executor.answered("planner", 1), "in lockstep it is an answer none the less"
    executor.accept(uncertain_plan([0.0, 0.2], answers=1, start=1, controller="policy"), 1, 1)
    row = executor.choose(1, np.zeros(4))
    assert row is not None and row.controller == "policy"
    executor.accept(uncertain_plan([0.0, 0.2], answers=2, start=2), 2, 2)
    row = executor.choose(2, np.zeros(4))
    assert row is not None and row.controller == "planner"


def test_a_plan_that_predicts_no_spread_is_not_held_to_it() -> None:
    executor = bounded_executor()
    executor.accept(AddressedPlan(Plan(np.array([[0.3]])), "planner", 1, 0, 0), 0, 0)
    assert executor.choose(0, np.zeros(4)) is not None and executor.uncertain_plans == 0


def test_on_a_late_robot_a_row_is_answerable_for_when_it_acts() -> None:
    """A spread after step 2 is that of a row which was sent earlier, by the delay rounded up."""
    for periods, trusted in ((0.0, 2), (0.5, 1), (1.0, 1), (1.5, 0)):
        late = dataclasses.replace(SPEC, delay=periods * SPEC.period)
        executor = PlanExecutor(late, ("planner",), np.array([np.inf, 0.5, np.inf, np.inf]))
        executor.begin_episode(1)
        executor.accept(uncertain_plan([0.0, 0.1, 0.5, 0.6, 0.1]), 0, 0)
        served = [executor.choose(step, np.zeros(4)) is not None for step in range(4)]
        assert served == [step < trusted for step in range(4)]
