# SPDX-License-Identifier: Apache-2.0
"""`./mbrl doctor`: every fault that it knows of, and real processes that are well, and then are not."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from std_msgs.msg import Float64MultiArray
from test_swap import Graph, graph, start_robot  # noqa: F401 - graph is a fixture

from mbrl_bringup.doctor.finding import ATTENTION, WELL, WRONG, Finding, worst
from mbrl_bringup.doctor.graph import Endpoint, Snapshot, Status, graph_findings
from mbrl_bringup.doctor.machine import LEAST_DISK, MEGABYTE, Machine, discovery_findings, machine_findings
from mbrl_policy.nodes.recorder_node import RecorderConfig

GOOD = Machine(8, 0.5, 8000 * MEGABYTE, 50_000 * MEGABYTE, Path("runs"), -1, 99, True, False)
STEP = "mbrl_msgs/msg/TimeStep"


def endpoint(node: str, topic: str, kind: str = STEP, reliable: bool = True, latched: bool = False) -> Endpoint:
    return Endpoint(node, topic, kind, reliable, latched)


RUNNING = Snapshot(
    seconds=2.0, nodes=["/robot", "/mujoco"],
    publishers=[endpoint("/robot", "/time_step"), endpoint("/mujoco", "/joint_states", "sensor_msgs/msg/JointState")],
    subscriptions=[
        endpoint("/robot", "/joint_states", "sensor_msgs/msg/JointState"), endpoint("/recorder", "/time_step"),
    ],
    statuses=[Status("/robot", 0, "running", {"episode": "1"})], counts={"/time_step": 50},
    periods={"/time_step": 0.04}, moving=["/time_step"],
)  # fmt: skip


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != WELL]


def test_a_good_machine_is_well() -> None:
    assert worst(machine_findings(GOOD)) == WELL
    assert worst(machine_findings(dataclasses.replace(GOOD, locked=0, priority=0, privileged=True))) == WELL
    assert worst(discovery_findings({"ROS_DOMAIN_ID": "42"})) == WELL
    assert worst([]) == WELL


@pytest.mark.parametrize(
    ("change", "level", "told"),
    [
        ({"cores": 1}, ATTENTION, "1 cores"),
        ({"load": 9.0}, ATTENTION, "load 9.0"),
        ({"free_memory": 300 * MEGABYTE}, ATTENTION, "300 MB of memory"),
        ({"free_disk": 150 * MEGABYTE}, WRONG, "150 MB free"),
        ({"free_disk": 1500 * MEGABYTE}, ATTENTION, "1500 MB free"),
        ({"writable": False}, WRONG, "runs cannot be written to"),
        ({"locked": 8 * MEGABYTE}, ATTENTION, "lock 8 MB"),
        ({"priority": 0}, ATTENTION, "may not take precedence"),
    ],
)
def test_what_a_machine_lacks_is_named(change: dict[str, object], level: str, told: str) -> None:
    (found,) = bad(machine_findings(dataclasses.replace(GOOD, **change)))  # type: ignore[arg-type]
    assert found.level == level and told in found.text and found.advice


@pytest.mark.parametrize(
    ("environment", "level", "told"),
    [
        ({"ROS_DOMAIN_ID": "robot"}, WRONG, "ROS_DOMAIN_ID is 'robot'"),
        ({"ROS_DOMAIN_ID": "233"}, WRONG, "'233'"),
        ({"ROS_DOMAIN_ID": "150"}, ATTENTION, "domain 150"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, WRONG, "OFF"),
    ],
)
def test_what_keeps_nodes_apart_is_named(environment: dict[str, str], level: str, told: str) -> None:
    (found,) = bad(discovery_findings(environment))
    assert found.level == level and told in found.text and found.advice


def test_the_recorders_limit_is_the_one_that_it_has() -> None:
    assert RecorderConfig().minimum_free_space * MEGABYTE == LEAST_DISK


def test_a_system_that_runs_is_well() -> None:
    assert bad(graph_findings(RUNNING)) == []
    idle = dataclasses.replace(RUNNING, counts={}, moving=[])
    assert bad(graph_findings(idle)) == []
    commands = [endpoint(name, "/arm/commands") for name in ("/robot", "/watchdog")]
    assert bad(graph_findings(dataclasses.replace(RUNNING, publishers=[*RUNNING.publishers, *commands]))) == []
    (nothing,) = graph_findings(Snapshot(1.0))
    assert nothing.level == ATTENTION and "no node is running" in nothing.text


@pytest.mark.parametrize(
    ("change", "level", "told"),
    [
        ({"nodes": ["/robot", "/robot"]}, WRONG, "2 nodes are named /robot"),
        ({"publishers": RUNNING.publishers[:1]}, WRONG, "nobody publishes /joint_states, needed by /robot"),
        ({"publishers": [*RUNNING.publishers, endpoint("/other", "/time_step")]}, WRONG, "/other, /robot"),
        (
            {"publishers": [*RUNNING.publishers, *(endpoint(name, "/arm/commands") for name in ("/one", "/two"))]},
            WRONG, "2 publish /arm/commands",
        ),
        ({"publishers": [*RUNNING.publishers[1:], endpoint("/robot", "/time_step", "x/msg/Y")]}, WRONG, "x/msg/Y"),
        (
            {"publishers": [*RUNNING.publishers[1:], endpoint("/robot", "/time_step", reliable=False)]},
            WRONG, "/recorder never hears /robot on /time_step",
        ),
        (
            {"subscriptions": [endpoint("/recorder", "/time_step", latched=True)]}, WRONG, "the publisher volatile",
        ),
        ({"statuses": [Status("/robot", 1, "no fresh plan", {})]}, ATTENTION, "/robot says: no fresh plan"),
        ({"statuses": [Status("/robot", 2, "emergency stop", {})]}, WRONG, "emergency stop"),
        ({"statuses": [Status("/robot", 0, "", {"refused/plan": "3"})]}, ATTENTION, "refused: plan 3 times"),
        ({"counts": {"/time_step": 30}}, WRONG, "15 times a second, expected 25"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_system_is_named(change: dict[str, object], level: str, told: str) -> None:
    (found,) = bad(graph_findings(dataclasses.replace(RUNNING, **change)))  # type: ignore[arg-type]
    assert found.level == level and told in found.text


def doctor(graph: Graph, *words: str) -> tuple[int, str]:  # noqa: F811
    command = [sys.executable, "-c", "import sys; from mbrl_bringup.cli import main; sys.exit(main(sys.argv[1:]))"]
    process = subprocess.Popen(
        [*command, "doctor", *words], env=graph.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    graph.wait(lambda: process.poll() is not None, "./mbrl doctor", 120.0)
    return process.returncode, process.communicate()[0]


def test_a_backend_that_dies_is_missed_by_name(graph: Graph, tmp_path: Path) -> None:  # noqa: F811
    robot = start_robot(graph, tmp_path)
    graph.wait(lambda: graph.node.count_publishers("time_step") == 1, "the robot")
    graph.wait(lambda: graph.node.count_publishers("joint_states") == 1, "the backend")
    runs = ("--runs", str(tmp_path), "--seconds", "1")
    status, said = doctor(graph, *runs)
    assert "/robot" in said and "/mujoco" in said and "/time_step: no episode is running" in said, said
    assert "nobody publishes /plan, needed by /robot" in said and "joint_states" not in said, said
    assert "never hears" not in said, said
    assert status == ("WRONG" in said)

    # The same command topic from a second node, which fights with the first.
    second = graph.node.create_publisher(Float64MultiArray, robot.command_topic, 1)
    graph.wait(lambda: graph.node.count_publishers(robot.command_topic) == 2, "both publishers")
    status, said = doctor(graph, *runs)
    assert status == 1 and f"2 publish /{robot.command_topic}" in said, said
    graph.node.destroy_publisher(second)

    graph.processes["mujoco"].send_signal(signal.SIGTERM)
    graph.processes["mujoco"].wait(20.0)
    graph.wait(lambda: graph.node.count_publishers("joint_states") == 0, "the backend to be gone")
    status, said = doctor(graph, *runs)
    assert status == 1 and "nobody publishes /joint_states, needed by /robot" in said, said


def test_the_machine_alone_needs_no_ros(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mbrl_bringup.cli.doctor import main

    status = main(["--machine", "--runs", str(tmp_path / "not" / "there")])
    said = capsys.readouterr().out
    assert "This machine" in said and "ROS domain" in said and status == ("WRONG" in said)
    with pytest.raises(SystemExit):
        main(["--seconds", "nan"])
