# SPDX-License-Identifier: Apache-2.0
"""A robot that is seen through positions, an inertial unit and odometry, two steps at a time: in real nodes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from robot_graph import DISCOVERY, Graph
from sensed_robot import sensed_robot
from sensor_msgs.msg import Imu

from mbrl_core.robot_file import Robot, load_robot
from mbrl_msgs.msg import TimeStep
from mbrl_robot.simulation import MujocoSimulation
from mbrl_ros import qos

START = [0.2, 0.5, 0.0, 0.0]


def start_state(robot: Robot) -> list[float]:
    """Positions as in START, nothing different before, and no sensor's value: those follow from the positions."""
    state = np.zeros(robot.spec.state.size)
    state[:2] = START[:2]
    return state.tolist()


def run(graph: Graph, robot_file: Path, mode: str) -> list[TimeStep]:
    graph.spec = load_robot(robot_file).spec
    for name in ("mujoco", "robot"):
        graph.start(name, robot_file=robot_file, mode=mode)
    graph.answer = lambda step: graph.make_plan(step)
    robot = load_robot(robot_file)
    result = graph.start_episode(controller="planner", max_steps=12, start_state=start_state(robot))
    assert result.success, result.message
    return graph.episode(result.episode)


def check_history(steps: list[TimeStep]) -> None:
    """Earlier observations are those of the earlier steps."""
    states = [np.array(step.state) for step in steps]
    assert (states[0][8:16] == 0.0).all(), "the first fills the history"
    for before, state in pairwise(states):
        assert state[8:16] == pytest.approx(before[:8] - state[:8], abs=1e-12)
    assert [step.state[16] for step in steps[1:]] == [step.action[0] for step in steps[1:]]


def test_in_lockstep_the_state_is_that_of_the_simulation(graph: Graph, tmp_path: Path) -> None:
    path = sensed_robot(tmp_path)
    robot = load_robot(path)
    steps = run(graph, path, "lockstep")
    check_history(steps)
    simulation = MujocoSimulation(robot)
    whole, seen = simulation.reset(np.array(START)), [0, 1, *range(4, 10)]
    assert list(steps[0].state[:8]) == whole[seen].tolist()
    for step in steps[1:]:
        simulation.set_command(np.array(step.action) * robot.spec.action.scale)
        assert list(step.state[:8]) == simulation.step_control()[seen].tolist()


def test_in_realtime_topics_give_the_entries_and_silence_ends_the_episode(graph: Graph, tmp_path: Path) -> None:
    path = sensed_robot(tmp_path)
    imus: list[Imu] = []
    graph.node.create_subscription(Imu, "tip/imu", imus.append, qos.JOINT_STATES)
    steps = run(graph, path, "realtime")
    valid = [step for step in steps if step.step == 0 or step.action_valid]
    assert len(valid) > 6, "a busy machine may miss a few ticks"
    for step in steps:
        slide, turn, pitch, rate, x, z = step.state[:6]
        # The newest sensor message is a simulated step or so away from the joint states.
        near = 0.03 * (1.0 + abs(rate))
        assert (pitch, x, z) == pytest.approx((turn, slide - 0.5 * np.sin(turn), 1.0 - 0.5 * np.cos(turn)), abs=near)
    assert imus and imus[-1].header.frame_id == "tip"
    # The same, but nobody publishes the inertial unit where robot_node listens.
    content = path.read_text().replace("topic: tip/imu", "topic: nowhere/imu")
    deaf = path.with_name("deaf.yaml")
    deaf.write_text(content)
    assert graph.stop("robot") == 0
    graph.start("robot", robot_file=deaf, start_timeout=1.0)
    result = graph.start_episode(controller="planner", max_steps=12)
    assert not result.success and "no joint_states newer than the reset" in result.message
    graph.wait(lambda: graph.refused("robot", "joint_states/stale_sensor") > 0, DISCOVERY)
    assert "nowhere/imu: nothing, expected messages" in graph.output("robot")
