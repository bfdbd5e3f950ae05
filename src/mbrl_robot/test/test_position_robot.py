# SPDX-License-Identifier: Apache-2.0
"""A robot driven by positions, in real nodes: it never hears of a position that it has no reason to go to."""

import signal
from pathlib import Path

import numpy as np
import pytest
from robot_graph import DISCOVERY, Graph
from sensor_msgs.msg import JointState
from servo_robots import servo_robot
from std_msgs.msg import Float64MultiArray

from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import TimeStep
from mbrl_ros import qos

TOPIC = "position_controller/commands"
START = [0.4, -0.3, 0.0, 0.0]  # turn, rail, velocities
LENGTHS = np.array([0.5, 2.0])  # scales of rail and turn


class Scene:
    """mujoco_node, watchdog_node and robot_node with the robot; all commands and joint states."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph = graph
        self.robot_file = servo_robot(folder, "position")
        graph.spec = load_robot(self.robot_file).spec
        self.commands: list[list[float]] = []
        self.states: list[JointState] = []
        graph.node.create_subscription(
            Float64MultiArray, TOPIC, lambda message: self.commands.append(list(message.data)), 1000
        )
        graph.node.create_subscription(JointState, "joint_states", self.states.append, qos.JOINT_STATES)
        for name in ("mujoco", "watchdog", "robot"):
            graph.start(name, robot_file=self.robot_file)
        graph.wait(lambda: self.states and self.commands, DISCOVERY)

    @property
    def position(self) -> np.ndarray:
        """rail, turn: in the order of commands."""
        return np.array(self.states[-1].position)[::-1]

    def stays(self, seconds: float, within: float = 0.02) -> None:
        """Spins for a while; whatever came of the robot moved it no further than that."""
        before, seen = self.position, len(self.states)
        self.graph.spin(seconds)
        moved = [np.abs(np.array(state.position)[::-1] - before).max() for state in self.states[seen:]]
        assert max(moved) < within, f"from {before} by {max(moved)}"


def test_it_rests_where_it_is_before_between_and_after(graph: Graph, tmp_path: Path) -> None:
    scene = Scene(graph, tmp_path)
    # The start distribution has no spread: whoever sent zero would move the robot away from it.
    assert scene.position == pytest.approx([-0.3, 0.4], abs=0.02)
    assert np.array(scene.commands) == pytest.approx(np.tile([-0.3, 0.4], (len(scene.commands), 1)), abs=0.02)
    scene.stays(0.3)
    # Another start: the position held before the reset is not told again after it.
    target = np.array([0.5, -0.25])
    graph.answer = lambda step: graph.make_plan(step, delay=1, horizon=6, actions=[*np.tile(target, 6)])
    seen = len(scene.commands)
    result = graph.start_episode(controller="planner", start_state=[-0.6, 0.2, 0.0, 0.0], max_steps=40)
    assert result.success, result.message
    graph.wait(lambda: graph.of(result.episode))
    first = graph.of(result.episode)[0]
    assert list(first.state) == pytest.approx([-0.6, 0.2, 0.0, 0.0], abs=0.05)
    last = graph.episode(result.episode)[-1]
    assert last.end_reason == TimeStep.TIME_LIMIT
    assert list(last.state)[:2] == pytest.approx((target * LENGTHS)[::-1], abs=0.02), "the plan's position, reached"
    told = np.array(scene.commands[seen:])
    places = np.array([[-0.3, 0.4], [0.2, -0.6], target * LENGTHS])
    assert np.abs(told[:, None] - places).max(axis=-1).min(axis=-1).max() < 0.2, "nothing but old, start and target"
    scene.stays(0.3)
    # robot_node ends in the middle of a movement: what it says last is the present position.
    graph.answer = lambda step: graph.make_plan(step, delay=1, horizon=6, actions=[*np.tile(-target, 6)])
    result = graph.start_episode(controller="planner", start_state=START)
    graph.wait(lambda: len(graph.of(result.episode)) > 4)
    assert graph.stop("robot", signal.SIGINT) == 0
    graph.spin(0.2)
    assert np.abs(np.array(scene.commands[-1]) - scene.position).max() < 0.15
    scene.stays(0.6)
    graph.wait(lambda: "it holds its position now" in graph.output("mujoco"))
    scene.stays(0.3)


def test_a_killed_robot_node_leaves_it_where_it_is(graph: Graph, tmp_path: Path) -> None:
    scene = Scene(graph, tmp_path)
    graph.wait(lambda: graph.diagnostics.get("/watchdog", {}).get("state") == "armed", DISCOVERY)
    graph.stop("robot", signal.SIGKILL)
    graph.wait(lambda: graph.diagnostics.get("/watchdog", {}).get("state") == "tripped")
    scene.stays(0.3)
    assert scene.commands[-1] == pytest.approx([-0.3, 0.4], abs=0.02)
    assert graph.stop("watchdog") == 0
    scene.stays(0.8)
    assert scene.position == pytest.approx([-0.3, 0.4], abs=0.05)
