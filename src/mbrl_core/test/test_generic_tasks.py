# SPDX-License-Identifier: Apache-2.0
"""Tasks for any robot: what they pay, by hand, and what they refuse."""

import math

import numpy as np
import pytest

from mbrl_core.config import ConfigurationError
from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec
from mbrl_core.tasks import make_task

TIP = {"joints": 2, "actions": 1, "width": 0.1, "tip_z": 1.0, "slide_0_axis_x": 2.0, "hinge_1_axis_y": 1.0}
TURN = {"joints": 2, "actions": 1, "turn_0": 2.0, "joint_1": 0.5, "speed_1": 4.0}


def spec(kinds: tuple[str, str] = ("linear", "angular"), actions: int = 1) -> RobotSpec:
    state = StateSpec(("a", "b", "c", "d"), (*kinds, "linear", "linear"), ("m",) * 4, (-9.0,) * 4, (9.0,) * 4)
    names = tuple("uvw"[:actions])
    ones = (1.0,) * actions
    action = ActionSpec(names, ("effort",) * actions, ("N",) * actions, tuple(-one for one in ones), ones, ones,
                        (math.inf,) * actions)  # fmt: skip
    return RobotSpec("some", 0.02, state, action, 3, "")


def test_the_tip_of_a_pole_on_a_cart() -> None:
    task = make_task(
        "tip_target", (0.5, 0.0, 1.0), TIP, {"distance": 2.0, "close": 1.0, "velocity": 0.1, "action": 0.3}
    )
    state = np.array([0.5, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(task.tip(state), [0.5, 0.0, 1.0], atol=1e-12)
    assert task.reward(state, np.zeros(1), state) == pytest.approx(-2e-4, abs=1e-9)
    lying = np.array([0.5, np.pi / 2, 2.0, 1.0])
    np.testing.assert_allclose(task.tip(lying), [1.5, 0.0, 0.0], atol=1e-12)
    expected = -(2.0 * math.sqrt(2.0) + 1.0 + 0.1 * 5.0 + 0.3 * 4.0)
    assert task.reward(state, np.array([2.0]), lying) == pytest.approx(expected, abs=1e-6)
    assert task.state_is_success(state) and not task.state_is_success(lying)


def test_joints_at_targets_whole_turns_apart() -> None:
    task = make_task("joint_target", (1.0, 0.2), TURN, {"velocity": 0.5})
    there = np.array([1.0 + 2.0 * np.pi, 0.2, 0.0, 0.0])
    assert task.squared_distance(there) == pytest.approx(0.0)
    off = np.array([1.0 + np.pi, 0.7, 0.0, 8.0])
    assert task.squared_distance(off) == pytest.approx(((2.0 / 2.0) ** 2 + 1.0) / 2.0)
    resting = off * [1.0, 1.0, 1.0, 0.0]
    faster = task.reward(off, np.zeros(1), off) - task.reward(off, np.zeros(1), resting)
    assert faster == pytest.approx(-0.5 * 4.0)


@pytest.mark.parametrize(
    ("kind", "parameters", "goal", "message"),
    [
        ("tip_target", {**TIP, "wing_1": 1.0}, (), "unknown parameter 'wing_1'"),
        ("tip_target", {"joints": 2, "tip_z": 1.0}, (), "expected a parameter 'actions'"),
        ("tip_target", {**TIP, "hinge_2_axis_x": 1.0}, (), "got joint 2, expected one of 0 to 1"),
        ("tip_target", {**TIP, "hinge_0_axis_x": 1.0}, (), "each joint once"),
        ("tip_target", {**TIP, "hinge_1_axis_y": 0.0}, (), "axis of joint 1"),
        ("tip_target", {**TIP, "joints": 1.5}, (), "'joints': got 1.5"),
        ("tip_target", {**TIP, "width": 0.0}, (), "'width': got 0"),
        ("tip_target", TIP, (1.0, 2.0), "goal: got 2 numbers, expected 3"),
        ("joint_target", TURN, (1.0,), "goal: got 1 numbers, expected 2"),
        ("joint_target", {**TURN, "joint_0": 1.0}, (1.0, 1.0), "expected a parameter joint_J or turn_J"),
        ("joint_target", {"joints": 2, "actions": 1}, (), "expected a parameter joint_J or turn_J"),
    ],
)
def test_a_bad_task_is_refused(kind: str, parameters: dict, goal: tuple, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_task(kind, goal, parameters)


def test_another_robot_is_refused() -> None:
    make_task("tip_target", (0.0, 0.0, 1.0), TIP).check_robot(spec())
    with pytest.raises(ConfigurationError, match="'slide_0_axis': 'a' of robot 'some' is angular, expected linear"):
        make_task("tip_target", (), TIP).check_robot(spec(("angular", "angular")))
    with pytest.raises(ConfigurationError, match="has 4 states and 2 actions, expected 4 and 1"):
        make_task("joint_target", (0.0, 0.0), TURN).check_robot(spec(actions=2))
    with pytest.raises(ConfigurationError, match="'turn_0'.* is linear, expected angular"):
        make_task("joint_target", (0.0, 0.0), TURN).check_robot(spec())
