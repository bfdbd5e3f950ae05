# SPDX-License-Identifier: Apache-2.0
"""dart_node: the interface of mujoco_node, with robot_node too, and what it does when DART's process ends."""

import os
import signal
from pathlib import Path

import pytest
from robot_graph import ROBOTS, Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_core.robot_description.dart import MISSING, SYSTEM_PYTHON, available
from mbrl_msgs.msg import Plan, TimeStep
from mbrl_msgs.srv import ResetBackend
from mbrl_ros import qos

needs_dart = pytest.mark.skipif(not available(), reason=MISSING.format(python=SYSTEM_PYTHON))


def children(process: int) -> list[int]:
    """Ids of the processes that a process has started and that live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == process and state != "Z":
            found.append(int(entry.parent.name))
    return found


def record(domain: int) -> bytes:
    """States and actions of two lockstep episodes, of nodes started afresh."""
    graph = Graph(domain)
    try:
        graph.start("dart", mode="lockstep")
        graph.start("robot", mode="lockstep")
        graph.answer = graph.make_plan
        content = b""
        for _ in range(2):
            result = graph.start_episode(max_steps=50, seed=11, controller="planner")
            assert result.success, result.message
            steps = graph.episode(result.episode)
            assert [message.step for message in steps] == list(range(51))
            content += b"".join(message.state.tobytes() + message.action.tobytes() for message in steps)
        return content
    finally:
        graph.close()


@needs_dart
def test_lockstep_same_seed_same_bytes(domain: int) -> None:
    first, second = record(domain), record(domain)
    assert first == second
    assert first[: len(first) // 2] != first[len(first) // 2 :], "two episodes start differently"


@needs_dart
def test_realtime_commands_time_out_and_a_killed_dart_is_started_again(graph: Graph) -> None:
    states: list[JointState] = []
    graph.node.create_subscription(JointState, "joint_states", states.append, qos.JOINT_STATES)
    commands = graph.node.create_publisher(Float64MultiArray, "effort_controller/commands", qos.COMMAND)
    node = graph.start("dart")
    graph.wait(lambda: states and commands.get_subscription_count(), 15.0)
    assert list(states[-1].name) == ["slider", "hinge"]
    wanted = [0.5, 1.0, -0.2, 0.3]
    response = graph.call(ResetBackend, "reset_backend", state=wanted)
    assert response.success and list(response.state) == wanted
    commands.publish(Float64MultiArray(data=[1e6]))
    graph.wait(lambda: states[-1].effort[0] == 300.0)
    graph.wait(lambda: states[-1].effort[0] == 0.0)  # silence: the node's own time-out

    (dart,) = children(node.pid)
    os.kill(dart, signal.SIGKILL)
    graph.wait(lambda: "DART's process ended with status -9" in graph.diagnostics.get("/dart", {}).get("message", ""))
    graph.spin(0.1)
    silent = len(states)
    graph.spin(0.3)
    assert len(states) == silent, "what nobody simulates may not look alive"
    response = graph.call(ResetBackend, "reset_backend", state=wanted)
    assert response.success, response.message
    graph.wait(lambda: len(states) > silent + 10)
    stamps = [item.header.stamp.sec * 10**9 + item.header.stamp.nanosec for item in states]
    assert stamps == sorted(set(stamps))


@needs_dart
@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_an_episode_whose_dart_is_killed_ends_by_fault_and_the_next_one_runs(graph: Graph, mode: str) -> None:
    node = graph.start("dart", mode=mode)
    graph.start("robot", mode=mode)
    delay = 1 if mode == "realtime" else 0

    def answer(time_step: TimeStep) -> Plan:
        if time_step.episode == 1 and time_step.step == 5:
            (dart,) = children(node.pid)
            os.kill(dart, signal.SIGKILL)
        return graph.make_plan(time_step, delay)

    graph.answer = answer
    first = graph.start_episode(max_steps=1000, controller="planner")
    assert first.success, first.message
    assert graph.episode(first.episode)[-1].end_reason == TimeStep.FAULT
    second = graph.start_episode(max_steps=10, controller="planner")
    assert second.success, second.message
    assert graph.episode(second.episode)[-1].end_reason == TimeStep.TIME_LIMIT


@needs_dart
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_ends_all_of_it_in_order(graph: Graph, number: signal.Signals) -> None:
    states: list[JointState] = []
    graph.node.create_subscription(JointState, "joint_states", states.append, qos.JOINT_STATES)
    node = graph.start("dart")
    graph.wait(lambda: states, 15.0)
    (dart,) = children(node.pid)
    os.killpg(node.pid, number)
    assert node.wait(10.0) == 0, graph.output("dart")
    graph.wait(lambda: not Path(f"/proc/{dart}").exists(), 5.0)
    assert "Traceback" not in graph.output("dart") and "diverged" not in graph.output("dart")


def test_without_dartpy_the_node_ends_with_one_line_that_says_what_to_install(graph: Graph) -> None:
    process = graph.start("dart", python="/no/such/python3", robot_file=ROBOTS / "pendulum.yaml")
    assert process.wait(15.0) == 2
    said = graph.output("dart")
    assert "dartpy is missing for /no/such/python3: on Debian or Ubuntu `apt-get install python3-dartpy" in said
    assert len(said.splitlines()) == 1, said
