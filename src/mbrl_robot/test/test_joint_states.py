# SPDX-License-Identifier: Apache-2.0
"""What robot_node does with bad joint states: the test node is its backend."""

import math

import pytest
from rclpy.time import Time
from robot_graph import Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_msgs.msg import TimeStep
from mbrl_msgs.srv import ResetBackend
from mbrl_ros import qos
from mbrl_ros.steady import steady_timer

NAMES = ["slider", "hinge"]
GOOD = {"name": NAMES, "position": [0.1, 0.2], "velocity": [0.3, 0.4]}
BAD = {
    "missing_joint": {"name": ["slider", "wheel"]},
    "wrong_length": {"velocity": [0.3]},
    "non_finite": {"position": [0.1, math.nan]},
    "duplicate_joint": {"name": ["slider", "hinge", "hinge"], "position": [0.0] * 3, "velocity": [0.0] * 3},
}


class Backend:
    """Publishes joint states at 100 Hz; `bad` spoils every other one, `silent` stops them."""

    def __init__(self, graph: Graph) -> None:
        self._node = graph.context_node("backend")
        self._publisher = self._node.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self._node.create_service(ResetBackend, "reset_backend", self._reset)
        self.commands: list[float] = []
        self._node.create_subscription(
            Float64MultiArray, "effort_controller/commands", lambda message: self.commands.append(message.data[0]), 10
        )
        self.bad: dict[str, object] = {}
        self.backwards_ns = 0
        self.silent = False
        self.velocity = 0.3
        self._count = 0
        steady_timer(self._node, 0.01, self._publish)

    def _reset(self, request: ResetBackend.Request, response: ResetBackend.Response) -> ResetBackend.Response:
        response.success, response.state = True, [0.0] * 4
        response.stamp_ns = self._node.get_clock().now().nanoseconds
        return response

    def _publish(self) -> None:
        self._count += 1
        if self.silent:
            return
        spoiled = self._count % 2 == 0
        message = JointState(**{**GOOD, "velocity": [self.velocity, 0.4], **(self.bad if spoiled else {})})
        stamp_ns = self._node.get_clock().now().nanoseconds - (self.backwards_ns if spoiled else 0)
        message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        self._publisher.publish(message)


@pytest.fixture
def backend(shared_graph: Graph) -> Backend:
    """A backend that is well at first, and robot_node."""
    if not hasattr(shared_graph, "backend"):
        shared_graph.backend = Backend(shared_graph)
        shared_graph.start("robot")
    shared_graph.answer = lambda time_step: shared_graph.make_plan(time_step, delay=1)
    backend = shared_graph.backend
    backend.bad, backend.backwards_ns, backend.silent, backend.velocity = {}, 0, False, 0.3
    return backend


@pytest.mark.parametrize("kind", BAD)
def test_bad_joint_states_are_refused_and_the_good_ones_serve(shared_graph: Graph, backend: Backend, kind: str) -> None:
    backend.bad = BAD[kind]
    result = shared_graph.start_episode(max_steps=6)
    assert result.success, result.message
    steps = shared_graph.episode(result.episode)
    assert steps[-1].end_reason == TimeStep.TIME_LIMIT
    assert all(list(message.state) == [0.1, 0.2, 0.3, 0.4] for message in steps)
    shared_graph.wait(lambda: shared_graph.refused("robot", f"joint_states/{kind}"), 5.0)


def test_time_that_runs_backwards_is_refused(shared_graph: Graph, backend: Backend) -> None:
    result = shared_graph.start_episode(max_steps=6)
    backend.backwards_ns = 50_000_000
    assert shared_graph.episode(result.episode)[-1].end_reason == TimeStep.TIME_LIMIT
    shared_graph.wait(lambda: shared_graph.refused("robot", "joint_states/time_backwards"), 5.0)
    assert "expected at least the last one" in shared_graph.output("robot")


def test_silence_is_a_fault_and_ends_in_zero(shared_graph: Graph, backend: Backend) -> None:
    result = shared_graph.start_episode()
    shared_graph.wait(lambda: len(shared_graph.of(result.episode)) > 3)
    backend.silent = True
    steps = shared_graph.episode(result.episode)
    assert steps[-1].end_reason == TimeStep.FAULT and not steps[-1].action_valid
    # Damping needs a velocity, and there is none to be trusted.
    backend.commands.clear()
    shared_graph.wait(lambda: len(backend.commands) >= 3)
    assert backend.commands[-1] == 0.0
    assert "joint_states: the newest is" in shared_graph.output("robot")


def test_safe_action_serves_between_episodes(shared_graph: Graph, backend: Backend) -> None:
    backend.velocity = 1.0
    # 0.3 units of 100 N per m/s.
    shared_graph.wait(lambda: backend.commands and backend.commands[-1] == pytest.approx(-30.0))
    backend.velocity = -0.5
    shared_graph.wait(lambda: backend.commands[-1] == pytest.approx(15.0))
