# SPDX-License-Identifier: Apache-2.0
"""Soft stops and limits of speed: one joint at a time, and a cart that is driven against its stop."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.guard_limits import GuardLimits, SoftStop, SpeedLimit
from mbrl_core.robot_file import Robot, load_robot
from mbrl_robot.guard import Guard
from mbrl_robot.joint_guard import JointGuard
from mbrl_robot.simulation import MujocoSimulation

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
STOP = SoftStop(-1.0, 1.0, 0.5)
SPEED = SpeedLimit(2.0, 0.25)
PERIOD = 0.04


def cartpole(
    stop: SoftStop | None = None, speed: SpeedLimit | None = None, interface: str = "effort", scale: float = 100.0
) -> Robot:
    """The cart-pole with a guard on its cart and another interface."""
    robot = load_robot(ROBOTS / "cartpole.yaml")
    action = dataclasses.replace(robot.spec.action, interfaces=(interface,), scale=(scale,))
    spec = dataclasses.replace(robot.spec, action=action)
    return dataclasses.replace(robot, spec=spec, guard=GuardLimits((stop,), (speed,), (np.inf,) * 4))


def passed(robot: Robot, action: float, position: float, velocity: float) -> float:
    """What becomes of an action."""
    state = np.array([position, 0.0, velocity, 0.0])
    return float(JointGuard(robot).bound(np.array([action]), state)[0][0])


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_no_effort_pushes_further_into_a_soft_stop(side: float) -> None:
    robot = cartpole(STOP)
    assert passed(robot, side * 3.0, side * 0.9, 0.0) == side * 3.0
    assert passed(robot, side * 3.0, side * 1.1, 0.0) == 0.0
    assert passed(robot, -side * 3.0, side * 1.1, 0.0) == -side * 3.0, "the way back is free"
    # It brakes what moves outwards, before it arrives, and nothing that moves inwards.
    assert passed(robot, side * 3.0, side * 0.9, side * 3.0) == pytest.approx(-side * 1.5)
    assert passed(robot, side * 3.0, side * 1.1, -side * 2.0) == 0.0
    assert passed(robot, -side * 3.0, side * 1.1, side * 2.0) == -side * 3.0


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_no_effort_makes_a_joint_faster_than_its_limit(side: float) -> None:
    robot = cartpole(speed=SPEED)
    assert passed(robot, side * 3.0, 0.0, side * 1.9) == side * 3.0
    assert passed(robot, side * 3.0, 0.0, side * 2.0) == 0.0
    assert passed(robot, side * 3.0, 0.0, side * 6.0) == pytest.approx(-side * 1.0)
    assert passed(robot, -side * 3.0, 0.0, side * 6.0) == -side * 3.0


def test_the_direction_is_that_of_the_command_where_the_scale_is_negative() -> None:
    robot = cartpole(STOP, scale=-100.0)
    assert passed(robot, -3.0, 1.1, 0.0) == 0.0
    assert passed(robot, 3.0, 1.1, 0.0) == 3.0
    assert passed(robot, -3.0, 1.1, 2.0) == pytest.approx(1.0)


def test_velocities_and_positions_are_bounded_themselves() -> None:
    velocity = cartpole(STOP, SPEED, "velocity", 1.0)
    assert passed(velocity, 3.0, 0.0, 0.0) == 2.0 and passed(velocity, -3.0, 0.0, 0.0) == -2.0
    assert passed(velocity, 3.0, 1.1, 0.5) == 0.0 and passed(velocity, -1.0, 1.1, 0.5) == -1.0
    position = cartpole(STOP, SPEED, "position", 1.0)
    assert passed(position, 3.0, 0.99, 0.0) == 1.0
    assert passed(position, 0.5, 0.0, 0.0) == pytest.approx(2.0 * PERIOD)
    assert passed(position, -0.05, 0.0, 0.0) == -0.05


def test_the_soft_stop_has_the_last_word() -> None:
    # Beyond the stop and too fast on the way in: braking would push out.
    assert passed(cartpole(STOP, SPEED), 0.0, 1.5, -8.0) == 0.0


def test_in_an_unknown_state_everything_passes_and_is_named_otherwise() -> None:
    guard = JointGuard(cartpole(STOP, SPEED))
    assert guard.bound(np.array([3.0]), None) == (np.array([3.0]), ())
    assert guard.bound(np.array([3.0]), np.array([1.5, 0.0, 0.0, 0.0]))[1] == ("soft_stop",)
    assert guard.bound(np.array([3.0]), np.array([0.0, 0.0, 5.0, 0.0]))[1] == ("velocity",)


def test_huge_numbers_are_finite_afterwards() -> None:
    robot = cartpole(STOP, SPEED)
    guard = Guard(robot.spec.action, JointGuard(robot))
    state = np.array([1e308, 0.0, 1.7e308, 0.0])
    with np.errstate(over="ignore"):
        for action in (1e308, -1e308, np.inf, np.nan):
            sent = guard.limit(np.array([action]), PERIOD, state).action
            assert np.isfinite(sent).all() and sent[0] <= 0.0


@pytest.mark.parametrize("push", [3.0, -3.0])
def test_a_cart_that_is_driven_against_its_stop_comes_to_rest_before_the_end(push: float) -> None:
    # 300 N on 15.5 kg: from 3 m/s it stops in 0.25 m.
    robot = cartpole(SoftStop(-2.0, 2.0, 3.0), SpeedLimit(3.0, 3.0))
    guard = Guard(robot.spec.action, JointGuard(robot))
    simulation = MujocoSimulation(robot)
    state = simulation.reset(np.zeros(4))
    farthest = fastest = 0.0
    for _ in range(250):
        state = simulation.step(guard.limit(np.array([push]), PERIOD, state).action)
        farthest, fastest = max(farthest, abs(state[0])), max(fastest, abs(state[2]))
    limit = load_robot(ROBOTS / "cartpole.yaml").joints[0].position_limits[1]
    assert 1.9 < farthest < limit
    # Faster by what one control period at full effort adds.
    assert fastest < 3.0 + 300.0 / 15.5 * PERIOD * 1.5
    assert guard.held_back["soft_stop"] > 0 and guard.held_back["velocity"] > 0
