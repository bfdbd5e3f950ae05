# SPDX-License-Identifier: Apache-2.0
"""Efforts, velocities and positions: what the simulation, the safe action and the guard make of each."""

from pathlib import Path

import numpy as np
import pytest
import torch
from servo_robots import ACTUATORS, servo_robot

from mbrl_core.robot_file import load_robot
from mbrl_core.specs import SpecError
from mbrl_dynamics.known import Mujoco, MujocoConfig
from mbrl_robot.control import Control
from mbrl_robot.safe_action import SafeController, rest_command
from mbrl_robot.simulation import MujocoSimulation
from mbrl_robot.watchdog import Watchdog

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
# Angle of `turn`, position of `rail`, and their velocities.
STATE = np.array([0.4, -0.3, 0.2, -0.1])
GENERAL = {
    "velocity": '<general joint="rail" biastype="affine" gainprm="50" biasprm="0 0 -200" gear="-3"/>',
    "position": '<general joint="rail" biastype="affine" gainprm="50" biasprm="0 -400 -60" gear="-3"/>',
}


def settled(path: Path, command: list[float], seconds: float = 2.0) -> np.ndarray:
    simulation = MujocoSimulation(load_robot(path))
    simulation.reset(STATE)
    assert not simulation.set_command(np.array(command))
    simulation.advance_time(seconds)
    return simulation.state


def test_a_velocity_drive_comes_to_the_velocity_whatever_its_gear_and_gains(tmp_path: Path) -> None:
    assert settled(servo_robot(tmp_path, "velocity"), [0.25, -1.5])[2:] == pytest.approx([-1.5, 0.25], abs=1e-6)
    general = GENERAL["velocity"] + '<velocity joint="turn" kv="20"/>'
    assert settled(servo_robot(tmp_path, "velocity", general), [0.25, 1.0])[3] == pytest.approx(0.25, abs=1e-6)


def test_a_position_drive_comes_to_the_position_whatever_its_gear_and_gains(tmp_path: Path) -> None:
    final = settled(servo_robot(tmp_path, "position"), [0.25, -1.5])
    assert final == pytest.approx([-1.5, 0.25, 0.0, 0.0], abs=1e-3)
    general = GENERAL["position"] + '<position joint="turn" kp="20" kv="5"/>'
    assert settled(servo_robot(tmp_path, "position", general), [0.25, 1.0])[1] == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(
    ("interface", "actuator"),
    [
        ("effort", '<position joint="rail" kp="10"/>'),
        ("velocity", '<motor joint="rail"/>'),
        ("velocity", '<position joint="rail" kp="10"/>'),
        ("velocity", '<intvelocity joint="rail" kp="10" actrange="-1 1"/>'),
        ("position", '<velocity joint="rail" kv="10"/>'),
        ("position", '<position joint="rail" kp="10" timeconst="0.1"/>'),
        ("position", '<general joint="rail" biastype="affine" gainprm="50" biasprm="7 -400 -60"/>'),
    ],
)
def test_an_actuator_of_another_kind_is_refused(tmp_path: Path, interface: str, actuator: str) -> None:
    robot = load_robot(servo_robot(tmp_path, interface, actuator + ACTUATORS[interface].split("/>")[1] + "/>"))
    with pytest.raises(SpecError, match=f"action 'rail': interface '{interface}' .* expected a <"):
        MujocoSimulation(robot)


@pytest.mark.parametrize("interface", ["velocity", "position"])
def test_planning_through_mujoco_agrees_with_the_simulation(tmp_path: Path, interface: str) -> None:
    path = servo_robot(tmp_path, interface)
    robot = load_robot(path)
    model, simulation = Mujoco(MujocoConfig(robot_file=str(path)), robot.spec, 0), MujocoSimulation(robot)
    state = simulation.reset(STATE)
    for action in np.random.default_rng(2).uniform(-1.5, 1.5, (10, 2)):
        predicted = model.predict(torch.from_numpy(state)[None], torch.from_numpy(action)[None]).mean[0, 0]
        state = simulation.step(action)
        assert predicted.numpy() == pytest.approx(state, abs=1e-12)


def test_rest_is_no_effort_no_velocity_or_the_position_that_the_robot_is_at(tmp_path: Path) -> None:
    for interface, expected in (("effort", STATE[2:]), ("velocity", [0.0, 0.0]), ("position", None)):
        simulation = MujocoSimulation(load_robot(servo_robot(tmp_path, interface)))
        simulation.reset(STATE)
        simulation.set_command(np.array([0.5, 0.5]))
        simulation.advance_time(0.02)
        simulation.stop()
        positions = simulation.state[:2]
        simulation.advance_time(1.0)
        if expected is None:
            assert simulation.state == pytest.approx([*positions, 0.0, 0.0], abs=1e-3)
        elif interface == "velocity":
            assert simulation.state[2:] == pytest.approx(expected, abs=1e-6)
        else:
            assert simulation.effort == pytest.approx([0.0, 0.0])


def test_a_reset_position_drive_stays_where_it_was_put(tmp_path: Path) -> None:
    simulation = MujocoSimulation(load_robot(servo_robot(tmp_path, "position")))
    simulation.reset(np.array([0.4, -0.3, 0.0, 0.0]))
    simulation.advance_time(0.5)
    assert simulation.state == pytest.approx([0.4, -0.3, 0.0, 0.0], abs=1e-9)


@pytest.mark.parametrize(
    ("interface", "safe", "text"),
    [
        ("velocity", "{kind: damping}", "got 'damping', expected one of zero, hold with the interface velocity"),
        ("velocity", "{kind: hold, gains: [1.0, 20.0]}", r"safe_action.gains: got 20, expected 0 to 10"),
        ("position", "{kind: zero}", "0 is a position that the robot would move to"),
        ("position", "{kind: damping}", "got 'damping', expected one of hold"),
        ("position", "{kind: hold, gains: [1.0, 1.0]}", "safe_action.gains: .* a position drive has its own"),
    ],
)
def test_safe_actions_that_make_no_sense_are_refused(tmp_path: Path, interface: str, safe: str, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        load_robot(servo_robot(tmp_path, interface, more=f"safe_action: {safe}"))


def test_a_robot_has_one_interface_and_the_topic_follows_it(tmp_path: Path) -> None:
    path = servo_robot(tmp_path, "velocity")
    robot = load_robot(path)
    assert (robot.interface, robot.command_topic) == ("velocity", "velocity_controller/commands")
    assert load_robot(servo_robot(tmp_path, "position")).safe_action.kind == "hold"
    mixed = path.read_text().replace("interface: position", "interface: effort", 1)
    path.write_text(mixed)
    with pytest.raises(SpecError, match="actions interface: got effort, position, expected the same for all"):
        load_robot(path)


def test_hold_of_a_velocity_drive_returns_to_the_entry(tmp_path: Path) -> None:
    robot = load_robot(servo_robot(tmp_path, "velocity", more="safe_action: {kind: hold, gains: [4.0, 2.0]}"))
    safe, simulation = SafeController(robot), MujocoSimulation(robot)
    entry = simulation.reset(np.array([0.4, -0.3, 0.0, 0.0]))
    assert safe.action(entry) == pytest.approx([0.0, 0.0])
    simulation.reset(np.array([0.5, -0.4, 0.0, 0.0]))
    for _ in range(60):
        state = simulation.step(safe.action(simulation.state))
    assert state == pytest.approx(entry, abs=5e-3)


def test_a_position_robot_is_told_nothing_until_its_position_is_known(tmp_path: Path) -> None:
    robot = load_robot(servo_robot(tmp_path, "position", slew=1.0))
    control = Control(robot)
    assert np.isnan(control.safe(None, 0.05).command).all()
    assert rest_command(robot, None, control.guard.last) is None
    first = control.safe(STATE, 0.05)
    assert first.command == pytest.approx([-0.3, 0.4]), "no slew limit from where nobody has told it to be"
    moved = STATE + np.array([0.3, 0.3, 0.0, 0.0])
    assert control.safe(moved, 0.05).command == pytest.approx([-0.3, 0.4]), "it holds the position of entry"
    assert control.safe(None, 0.05).command == pytest.approx([-0.3, 0.4]), "the last one, where it is unknown"
    assert rest_command(robot, None, control.guard.last) == pytest.approx([-0.3, 0.4])
    assert rest_command(robot, moved, control.guard.last) == pytest.approx([0.0, 0.7])
    assert rest_command(robot, moved + 5.0, control.guard.last) == pytest.approx([0.5, 2.0]), "within the limits"
    control.restart(moved)
    assert control.safe(None, 0.05).command == pytest.approx([0.0, 0.7])


def test_the_watchdog_holds_a_position(tmp_path: Path) -> None:
    watchdog = Watchdog(load_robot(servo_robot(tmp_path, "position")), 2.5)
    watchdog.commanded(np.array([0.1, 0.2]), 0, 0)
    assert watchdog.command(None) == pytest.approx([0.1, 0.2]), "where the state is unknown, the last one of anybody"
    assert watchdog.command(STATE) == pytest.approx([-0.3, 0.4])
    assert watchdog.last_command(STATE) == pytest.approx([-0.3, 0.4])


def test_the_shipped_arm_with_velocity_drives_bears_its_weight() -> None:
    simulation = MujocoSimulation(load_robot(ROBOTS / "arm_velocity.yaml"))
    start = simulation.reset(np.array([0.0, 0.4, 0.0, 1.0, 0.0, 0.6, 0.0, *([0.0] * 7)]))
    simulation.advance_time(1.0)
    assert np.abs(simulation.state - start).max() < 0.15, "at rest it sags slowly"
    simulation.set_command(np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]))
    simulation.advance_time(0.5)
    assert simulation.state[7:][[0, 6]] == pytest.approx([0.5, -1.0], abs=0.1)
