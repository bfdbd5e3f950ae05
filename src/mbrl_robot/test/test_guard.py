# SPDX-License-Identifier: Apache-2.0
"""Whatever plans say, what is sent is finite, within limits and within the slew limit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.messages import Plan
from mbrl_core.robot_file import Robot, SafeAction, load_robot
from mbrl_core.specs import ActionSpec
from mbrl_robot.control import Control
from mbrl_robot.executor import CONTROLLERS, SAFE, AddressedPlan, PlanRefused
from mbrl_robot.guard import Guard
from mbrl_robot.safe_action import SafeController

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
PERIOD = 0.02


def slewing_reacher(kind: str) -> Robot:
    """The reacher with asymmetric limits, one slew limit, and a safe action of a kind."""
    robot = load_robot(ROBOTS / "reacher.yaml")
    action = dataclasses.replace(robot.spec.action, lower=(-1.0, -0.5), upper=(1.0, 2.0), slew=(5.0, np.inf))
    spec = dataclasses.replace(robot.spec, action=action)
    return dataclasses.replace(robot, spec=spec, safe_action=SafeAction(kind, (0.5, 0.25)))


def random_plan(random: np.random.Generator, step: int) -> AddressedPlan:
    """Any plan at all: often valid, sometimes wrong in every way a plan can be."""
    rows = int(random.integers(1, 6))
    actions = random.normal(0.0, 10.0 ** random.uniform(-1, 3), (rows, 2))
    states = gains = None
    if random.random() < 0.3:
        states = random.normal(0.0, 3.0, (rows + 1, 4))
        gains = random.normal(0.0, 10.0 ** random.uniform(0, 308), (rows, 2, 4))
    if random.random() < 0.1:
        actions[random.integers(rows), random.integers(2)] = random.choice([np.nan, np.inf, -np.inf])
    answers = max(0, step + int(random.integers(-4, 2)))
    controller = str(random.choice([*CONTROLLERS, "nobody"]))
    episode = 1 if random.random() < 0.9 else 2
    plan = Plan(actions, predicted_states=states, gains=gains)
    return AddressedPlan(plan, controller, episode, max(0, step + int(random.integers(-3, 5))), answers)


@pytest.mark.parametrize("kind", ["zero", "damping", "hold"])
@pytest.mark.parametrize("seed", range(5))
def test_random_plans_never_get_past_the_guard(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    robot = slewing_reacher(kind)
    control = Control(robot)
    control.executor.begin_episode(1)
    spec = robot.spec.action
    last = np.zeros(2)
    served: set[str] = set()
    for step in range(400):
        for _ in range(random.integers(0, 4)):
            try:
                control.executor.accept(random_plan(random, step), step, step)
            except PlanRefused:
                continue
        if random.random() < 0.1:
            control.executor.select(str(random.choice([*CONTROLLERS, SAFE])))
        if random.random() < 0.02:
            control.guard.latch_emergency_stop()
        elif random.random() < 0.2:
            control.guard.reset_emergency_stop()
        state = random.normal(0.0, 10.0, 4)
        committed = control.committed_actions(step, state, 4, decided=False)
        stopped = control.guard.emergency_stop
        decision = control.decide(step, state, PERIOD)
        served.add(decision.controller)
        assert np.isfinite(decision.action).all()
        assert (decision.action >= spec.lower).all() and (decision.action <= spec.upper).all()
        assert (np.abs(decision.action - last) <= np.array(spec.slew) * PERIOD + 1e-12).all()
        assert decision.command == pytest.approx(decision.action * np.array(spec.scale))
        assert decision.fallback == (decision.controller != control.executor.selected)
        assert not stopped or decision.controller == SAFE
        assert 1 <= len(committed) <= 4
        assert (committed >= spec.lower).all() and (committed <= spec.upper).all()
        changes = np.diff(np.vstack([last, committed]), axis=0)
        assert (np.abs(changes) <= np.array(spec.slew) * PERIOD + 1e-12).all()
        last = decision.action
    assert {"planner", SAFE} <= served, "the property is empty when only one of them ever served"


def test_committed_actions_are_what_is_executed() -> None:
    control = Control(slewing_reacher("damping"))
    control.executor.begin_episode(1)
    actions = np.array([[1.0, 2.0], [-1.0, 0.0], [0.3, 9.0]])
    control.executor.accept(AddressedPlan(Plan(actions), "planner", 1, 1, 0), 0, 1)
    state = np.array([0.0, 0.0, 0.4, -0.4])
    control.decide(0, state, PERIOD)
    committed = control.committed_actions(0, state, 4, decided=True)
    assert len(committed) == 4
    assert committed[0] == pytest.approx(control.guard.last)
    executed = [control.decide(step, state, PERIOD).action for step in (1, 2, 3)]
    assert committed[1:] == pytest.approx(np.array(executed))


def test_switch_starts_from_the_last_command() -> None:
    control = Control(slewing_reacher("zero"))
    control.executor.begin_episode(1)
    control.executor.accept(AddressedPlan(Plan(np.full((4, 2), 0.1)), "planner", 1, 0, 0), 0, 0)
    control.executor.accept(AddressedPlan(Plan(np.full((4, 2), -1.0)), "teleop", 1, 0, 0), 0, 0)
    assert control.decide(0, np.zeros(4), PERIOD).action[0] == pytest.approx(0.1)
    control.executor.select("teleop")
    assert control.decide(1, np.zeros(4), PERIOD).action[0] == pytest.approx(0.1 - 5.0 * PERIOD)


def test_guard_says_when_it_limited() -> None:
    guard = Guard(ActionSpec(("a",), ("effort",), ("N",), (-1.0,), (1.0,), (1.0,), (10.0,)))
    assert not guard.limit(np.array([0.1]), 0.04).limited
    assert guard.limit(np.array([3.0]), 0.04).action == pytest.approx([0.5])
    result = guard.limit(np.array([np.nan]), 0.04)
    assert result.limited and result.action == pytest.approx([0.1])


def test_limits_that_exclude_zero() -> None:
    guard = Guard(ActionSpec(("a",), ("effort",), ("N",), (0.5,), (1.0,), (1.0,), (1.0,)))
    assert guard.limit(np.array([-np.inf]), 0.1).action == pytest.approx([0.5])


def test_safe_actions() -> None:
    state = np.array([1.0, -1.0, 2.0, -4.0])
    assert SafeController(slewing_reacher("zero")).action(state) == pytest.approx([0.0, 0.0])
    assert SafeController(slewing_reacher("damping")).action(state) == pytest.approx([-1.0, 1.0])
    assert SafeController(slewing_reacher("damping")).action(None) == pytest.approx([0.0, 0.0])


def test_hold_returns_to_where_it_was_entered() -> None:
    hold = SafeController(slewing_reacher("hold"))
    entry = np.array([3.1, 0.5, 0.0, 0.0])
    assert hold.action(entry) == pytest.approx([0.0, 0.0])
    beyond = np.array([-3.1, 0.4, 0.0, 0.0])
    expected = [0.5 * (6.2 - 2.0 * np.pi), 0.25 * 0.1]
    assert hold.action(beyond) == pytest.approx(expected)
    hold.leave()
    assert hold.action(beyond) == pytest.approx([0.0, 0.0])
