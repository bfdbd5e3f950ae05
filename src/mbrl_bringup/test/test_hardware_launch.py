# SPDX-License-Identifier: Apache-2.0
"""Launch files with backend:=hardware over real DDS: a robot under a stand-in of ros2_control, in MuJoCo."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hardware_graph import Hardware
from std_srvs.srv import Trigger

from mbrl_bringup.domains import reserved_domain
from mbrl_msgs.msg import TimeStep


@pytest.fixture
def hardware(tmp_path: Path) -> Iterator[Callable[..., Hardware]]:
    """Makes a robot that has been launched."""
    made: list[Hardware] = []
    with reserved_domain() as domain:

        def make(interface: str = "effort", file: str = "", settings: dict[str, Any] | None = None, **arguments: str):
            made.append(Hardware(tmp_path, domain, interface, **(settings or {})))
            made[-1].bring_up(file, **arguments)
            return made[-1]

        yield make
        for each in made:
            each.close()


def _ready(robot: Hardware) -> None:
    """Somebody could stop it, and everything else is there: commands begin."""
    robot.wait(lambda: robot.missing() == ["emergency_stop"])
    robot.hold_stop_ready()
    robot.wait(lambda: robot.commands or robot.dry)


def test_effort_robot_from_first_check_to_the_watchdog(hardware: Callable[..., Hardware]) -> None:
    robot = hardware(file="record.launch.yaml", reset="confirm", settings={"robot": {"start_timeout": 20.0}})
    # Nothing before the checks have passed: all is there but a person who could stop it.
    robot.wait(lambda: robot.missing() == ["emergency_stop"])
    assert robot.quiet_for(0.5) and not robot.commands
    assert all(math.isnan(value) for value in robot.applied), "the controller has passed something on"
    assert robot.controller_states[-1].active == "none"
    stop = robot.command("robot", "stop", "--wait")
    robot.wait(lambda: robot.commands)

    # A person confirms; not while the robot moves.
    result = robot.send_goal(required_controllers=["planner"], controller="planner")
    robot.wait(lambda: robot.phases.count("resetting") > 3)
    assert not result.done()
    robot.move_by_hand([0.5, 0.0, 0.0, 2.0])
    robot.wait(lambda: robot.missing() == ["rest"])
    answer = robot.call(Trigger, "confirm_reset")
    assert not answer.success and "has moved at" in answer.message
    robot.wait(lambda: robot.missing() == [])
    assert robot.confirm()
    robot.action = 0.5
    robot.wait(result.done)
    assert result.result().result.success, result.result().result.message
    episode = result.result().result.episode
    robot.wait(lambda: robot.applied == [50.0])
    robot.wait(lambda: robot.velocity > 0.2)
    steps = robot.of(episode)
    assert all(step.action_valid for step in steps[3:]) and steps[-1].controller == "planner"

    # The emergency stop in motion: damping, at once.
    said, _ = stop.communicate("\n", timeout=30.0)
    assert stop.returncode == 0 and "emergency stop published" in said, said
    steps = robot.episode(episode)
    assert steps[-1].end_reason == TimeStep.FAULT
    robot.wait(lambda: robot.applied and robot.applied[0] < 0.0)
    robot.wait(lambda: abs(robot.velocity) < 0.05)
    assert robot.call(Trigger, "reset_emergency_stop").success
    robot.hold_stop_ready()
    robot.wait(lambda: "emergency_stop" not in (robot.missing() or []))

    # Deactivated, the controller passes nothing on and the drive goes on with what it has: commands end.
    robot.wait(lambda: abs(robot.applied[0]) < 0.05)
    robot.switch("effort_controller", active=False)
    robot.wait(lambda: "says it is inactive, expected active" in robot.why)
    robot.wait(lambda: robot.quiet_for(0.3))
    assert robot.controller_states[-1].active == "none"
    robot.switch("effort_controller", active=True)
    before = len(robot.commands)
    robot.wait(lambda: len(robot.commands) > before)

    # The cable is pulled in an episode, and put back: nothing is sent before all checks have passed again.
    result = robot.send_goal(required_controllers=["planner"], controller="planner")
    robot.wait(lambda: robot.phases.count("resetting") > 3 and robot.why == "ready")
    assert robot.confirm()
    robot.wait(result.done)
    episode = result.result().result.episode
    robot.wait(lambda: len(robot.of(episode)) > 5)
    os.kill(robot.pid_of("ros2_control_node"), signal.SIGKILL)
    steps = robot.episode(episode)
    assert steps[-1].end_reason == TimeStep.FAULT
    robot.wait(lambda: robot.quiet_for(0.3))
    assert "joint_states: the newest is" in robot.why
    robot.applied = []
    manager = robot.start_alone(
        "controller_manager", "ros2_control_node", "--ros-args", "-r", "__node:=controller_manager", "--params-file",
        str(robot.folder / "controllers.yaml"),
    )  # fmt: skip
    try:
        spawner = ("controller_manager", "spawner")
        robot.start_alone(*spawner, "joint_state_broadcaster").wait(30.0)
        robot.wait(lambda: robot.missing() == ["controller", "controller_active"] and robot.applied)
        assert robot.quiet_for(0.3) and math.isnan(robot.applied[0])
        robot.start_alone(*spawner, "effort_controller").wait(30.0)
        before = len(robot.commands)
        robot.wait(lambda: len(robot.commands) > before)
        robot.wait(lambda: robot.missing() == [])

        # robot_node is killed while the cart moves: the watchdog damps it.
        robot.wait(lambda: robot.diagnostics.get("/watchdog", {}).get("state") == "armed")
        robot.move_by_hand([0.0, 0.0, 1.0, 0.0])
        os.kill(robot.pid_of("robot_node"), signal.SIGKILL)
        robot.wait(lambda: robot.diagnostics["/watchdog"].get("state") == "tripped")
        robot.wait(lambda: abs(robot.velocity) < 0.05)
        # It slows down by an effort against the motion.
        assert robot.applied[0] <= 0.0
    finally:
        robot.end(manager)


@pytest.mark.parametrize(
    ("interface", "action", "moves"),
    [
        ("effort", 0.5, lambda robot: robot.velocity > 0.3),
        ("velocity", 0.8, lambda robot: robot.velocity > 0.3),
        ("position", 0.6, lambda robot: robot.position > 0.5),
    ],
)
def test_robots_of_every_interface_go_home_and_run(
    interface: str, action: float, moves: Callable[[Hardware], bool], hardware: Callable[..., Hardware]
) -> None:
    robot = hardware(interface, reset="homing", settings={"hardware": {"homing_speeds": [0.5]}})
    robot.wait(lambda: robot.missing() == ["emergency_stop"])
    robot.move_by_hand([0.2, 0.0, 0.0, 0.0])
    robot.hold_stop_ready()
    robot.wait(lambda: robot.commands)
    # The safe action does not move it: velocity zero, or the position that it has.
    robot.spin(0.3)
    assert abs(robot.position - 0.2) < 0.02

    fastest: list[float] = []
    result = robot.send_goal(required_controllers=["planner"], controller="planner")
    robot.action = action
    robot.wait(lambda: fastest.append(abs(robot.velocity)) or result.done())
    assert result.result().result.success, result.result().result.message
    episode = result.result().result.episode
    robot.wait(lambda: robot.of(episode))
    assert abs(robot.of(episode)[0].state[0]) < 0.05, "not at its start"
    assert any(state.active == "homing" for state in robot.controller_states)
    robot.wait(lambda: moves(robot))
    assert max(fastest[:-1]) < 0.7

    # robot_node is killed: the watchdog brings it to rest.
    os.kill(robot.pid_of("robot_node"), signal.SIGKILL)
    robot.wait(lambda: robot.diagnostics.get("/watchdog", {}).get("state") == "tripped")
    robot.wait(lambda: abs(robot.velocity) < 0.02)
    # The last command acts for ever, whatever happens then.
    assert not math.isnan(robot.applied[0])


def test_a_dry_run_commands_nothing_and_limits_that_disagree_are_named(hardware: Callable[..., Hardware]) -> None:
    robot = hardware(dry_run="true", reset="homing", settings={"robot": {"start_timeout": 4.0}})
    _ready(robot)
    robot.action = 0.5
    result = robot.start_episode(controller="planner")
    assert result.success, result.message
    robot.wait(lambda: robot.dry and robot.dry[-1] == [50.0])
    robot.wait(lambda: "slider 50 to 50 N" in robot.screen)
    assert "dry run, nothing is commanded" in robot.screen
    assert not robot.commands and all(math.isnan(value) for value in robot.applied)
    steps = robot.of(result.episode)
    assert len(steps) > 2 and not any(step.action_valid for step in steps), "nothing is to be learned from it"
    assert not [info for info in robot.node.get_publishers_info_by_topic(robot.topic) if info.node_name == "robot"]

    # Somebody else's description: the motor is weaker than the robot file says.
    text = (robot.folder / "cartpole.urdf").read_text().replace('effort="300"', 'effort="200"')
    assert 'effort="200"' in text
    publisher = robot.describe(text)
    last = robot.episode(result.episode)[-1]
    assert last.end_reason == TimeStep.FAULT
    refused = robot.start_episode(controller="planner")
    assert not refused.success
    assert "action 'slider', effort limit: -200 to 200 in robot_description, -300 to 300" in refused.message
    robot.node.destroy_publisher(publisher)
