# SPDX-License-Identifier: Apache-2.0
"""mujoco_node in realtime: time, commands, and what it refuses."""

import os
import signal
import time

import pytest
from robot_graph import Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_msgs.srv import ResetBackend
from mbrl_ros import qos


class Bench:
    """Commands to the node and the joint states from it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.states: list[JointState] = []
        graph.node.create_subscription(JointState, "joint_states", self.states.append, qos.JOINT_STATES)
        self.commands = graph.node.create_publisher(Float64MultiArray, "effort_controller/commands", qos.COMMAND)
        self.process = graph.start("mujoco")
        graph.wait(lambda: self.states and self.commands.get_subscription_count(), 15.0)

    def send(self, *values: float) -> None:
        """Publishes one command and waits for joint states after it."""
        self.commands.publish(Float64MultiArray(data=list(values)))
        self.next(3)

    def next(self, count: int) -> None:
        """Waits for so many more joint states."""
        seen = len(self.states)
        self.graph.wait(lambda: len(self.states) >= seen + count)


@pytest.fixture(scope="module")
def bench(shared_graph: Graph) -> Bench:
    """The node, started once."""
    return Bench(shared_graph)


def test_joint_states_are_those_of_the_robot_file(bench: Bench) -> None:
    message = bench.states[-1]
    assert list(message.name) == ["slider", "hinge"]
    assert len(message.position) == len(message.velocity) == len(message.effort) == 2
    stamps = [item.header.stamp.sec * 10**9 + item.header.stamp.nanosec for item in bench.states]
    assert stamps == sorted(set(stamps))


def test_reset_is_exact_and_bad_ones_are_refused(bench: Bench) -> None:
    wanted = [0.5, 1.0, -0.2, 0.3]
    response = bench.graph.call(ResetBackend, "reset_backend", state=wanted)
    assert response.success and list(response.state) == wanted
    for state in ([0.0], [float("inf")] * 4):
        response = bench.graph.call(ResetBackend, "reset_backend", state=state)
        assert not response.success and "expected 4 finite numbers" in response.message
    drawn = [list(bench.graph.call(ResetBackend, "reset_backend", seed=seed, episode=2).state) for seed in (4, 4, 5)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_bad_commands_are_refused_and_the_time_out_is_zero(bench: Bench) -> None:
    bench.graph.call(ResetBackend, "reset_backend", state=[0.0] * 4)
    bench.send(120.0)
    assert bench.states[-1].effort[0] == pytest.approx(120.0)
    for command in ([1.0, 2.0], [], [float("nan")]):
        bench.commands.publish(Float64MultiArray(data=[120.0]))
        bench.graph.spin(0.02)
        bench.send(*command)
        assert bench.states[-1].effort[0] == pytest.approx(120.0), "a bad command may not change the old one"
    bench.send(1e6)
    assert bench.states[-1].effort[0] == pytest.approx(300.0)
    # Silence: the node's own time-out.
    bench.graph.wait(lambda: bench.states[-1].effort[0] == 0.0)
    bench.graph.wait(
        lambda: bench.graph.refused("mujoco", "wrong_length") >= 2 and bench.graph.refused("mujoco", "non_finite") >= 1
    )
    assert "expected 1" in bench.graph.output("mujoco")


def test_time_that_was_lost_is_skipped_and_counted(bench: Bench) -> None:
    def skipped() -> float:
        return float(bench.graph.diagnostics.get("/mujoco", {}).get("skipped_seconds", 0.0))

    before = skipped()
    os.kill(bench.process.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(bench.process.pid, signal.SIGCONT)
    bench.next(5)
    bench.graph.wait(lambda: skipped() > before + 0.3)
    # The stamps follow the clock none the less.
    stamp = bench.states[-1].header.stamp
    age = bench.graph.node.get_clock().now().nanoseconds * 1e-9 - (stamp.sec + stamp.nanosec * 1e-9)
    assert 0.0 <= age < 0.3
