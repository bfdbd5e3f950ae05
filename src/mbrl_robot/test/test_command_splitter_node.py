# SPDX-License-Identifier: Apache-2.0
"""The command splitter as its own process, over real DDS."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from servo_robots import servo_robot
from std_msgs.msg import Float64, Float64MultiArray

CONFIG = Path(__file__).parents[3] / "config"
ROBOTS = CONFIG / "robots"
COMMAND_TOPIC = "effort_controller/commands"


class Bench:
    """A command publisher, and everything that came on the joints' topics, in order of arrival."""

    def __init__(
        self, joints: tuple[str, ...], domain: int, topic: str = COMMAND_TOPIC, ending: str = "cmd_force"
    ) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("bench", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.commands = self.node.create_publisher(Float64MultiArray, topic, 1)
        self.forces: dict[str, list[float]] = {joint: [] for joint in joints}
        for joint in joints:
            self.node.create_subscription(
                Float64, f"{joint}/{ending}", lambda message, joint=joint: self.forces[joint].append(message.data), 10
            )

    def wait(self, condition: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Spins until `condition` holds or the time is over; returns whether it held."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self.executor.spin_once(timeout_sec=0.02)
        return True

    def connect(self) -> None:
        """Sends zeros until they come back on every force topic: only then has each side found the other."""
        zeros = [0.0] * len(self.forces)

        def answered() -> bool:
            self.send(*zeros)
            return all(self.forces.values())

        assert self.wait(answered), "no answer within 10 s"
        # What is still on its way, the zero of the time-out included, must not be taken for an answer later.
        self.wait(lambda: False, 0.5)
        for values in self.forces.values():
            values.clear()

    def send(self, *values: float) -> None:
        """Publishes one command."""
        self.commands.publish(Float64MultiArray(data=list(values)))

    def close(self) -> None:
        """Ends the context."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def start(robot: Path, domain: int) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-c",
        "from mbrl_robot.nodes.executables import command_splitter_node; command_splitter_node()",
        "--ros-args",
        "-p",
        f"robot_file:={robot}",
    ]
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **os.environ, "ROS_DOMAIN_ID": str(domain)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture
def reacher(domain: int) -> Iterator[tuple[Bench, "subprocess.Popen[str]"]]:
    bench = Bench(("joint0", "joint1"), domain)
    process = start(ROBOTS / "reacher.yaml", domain)
    try:
        bench.connect()
        yield bench, process
    finally:
        process.kill()
        process.wait()
        bench.close()


def end(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGTERM) -> str:
    process.send_signal(number)
    _, text = process.communicate(timeout=3.0)
    assert process.returncode == 0, text
    return text


def test_every_joint_gets_its_force(reacher: tuple[Bench, "subprocess.Popen[str]"]) -> None:
    bench, _ = reacher
    bench.send(12.5, -3.0)
    assert bench.wait(lambda: all(bench.forces.values()))
    assert bench.forces["joint0"][0] == 12.5
    assert bench.forces["joint1"][0] == -3.0


def test_silence_is_answered_by_zero_once(reacher: tuple[Bench, "subprocess.Popen[str]"]) -> None:
    bench, _ = reacher
    bench.send(12.5, -3.0)
    assert bench.wait(lambda: len(bench.forces["joint0"]) >= 2, 2.0), "no zero after the time-out of 0.1 s"
    bench.wait(lambda: False, 0.5)
    assert bench.forces == {"joint0": [12.5, 0.0], "joint1": [-3.0, 0.0]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_zero_is_the_last_word(tmp_path: Path, domain: int, number: signal.Signals) -> None:
    content = (ROBOTS / "cartpole.yaml").read_text()
    robot = tmp_path / "patient.yaml"
    robot.write_text(content.replace("command_timeout: 0.2", "command_timeout: 2000.0"))
    assert robot.read_text() != content
    bench = Bench(("slider",), domain)
    process = start(robot, domain)
    try:
        bench.connect()
        bench.send(50.0)
        assert bench.wait(lambda: bench.forces["slider"] == [50.0])
        end(process, number)
        assert bench.wait(lambda: bench.forces["slider"] == [50.0, 0.0], 2.0)
    finally:
        process.kill()
        process.wait()
        bench.close()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ((1.0,), "1 numbers, expected 2 (joint0, joint1)"),
        ((1.0, 2.0, 3.0), "3 numbers, expected 2"),
        ((1.0, float("nan")), "[1.0, nan], expected finite"),
        ((float("inf"), 0.0), "[inf, 0.0], expected finite"),
    ],
)
def test_bad_commands_are_refused(
    reacher: tuple[Bench, "subprocess.Popen[str]"], command: tuple[float, ...], text: str
) -> None:
    bench, process = reacher
    bench.send(*command)
    bench.wait(lambda: False, 0.3)
    assert bench.forces == {"joint0": [], "joint1": []}
    log = end(process)
    assert COMMAND_TOPIC in log and text in log, log


def test_a_position_robot_is_told_where_it_is_when_commands_stop(tmp_path: Path, domain: int) -> None:
    bench = Bench(("rail", "turn"), domain, "position_controller/commands", "cmd_pos")
    joint_states = bench.node.create_publisher(JointState, "joint_states", 5)
    process = start(servo_robot(tmp_path, "position"), domain)
    try:
        bench.connect()
        bench.send(0.5, -1.0)
        assert bench.wait(lambda: bench.forces["rail"] == [0.5])
        # Nobody has said yet where the joints are: they go on holding what they were told.
        bench.wait(lambda: False, 0.7)
        assert bench.forces == {"rail": [0.5], "turn": [-1.0]}
        joint_states.publish(JointState(name=["turn", "rail"], position=[0.3, 0.1], velocity=[0.0, 0.0]))
        bench.wait(lambda: False, 0.2)
        bench.send(0.5, -1.0)
        assert bench.wait(lambda: len(bench.forces["turn"]) == 3)
        end(process)
    finally:
        process.kill()
        process.wait()
        bench.close()
    assert bench.forces == {"rail": [0.5, 0.5, 0.1], "turn": [-1.0, -1.0, 0.3]}


def test_bridge_carries_every_force_topic() -> None:
    bridge = yaml.safe_load((CONFIG / "gazebo" / "cartpole_bridge.yaml").read_text())
    robot = yaml.safe_load((ROBOTS / "cartpole.yaml").read_text())
    bridged = {item["ros_topic_name"] for item in bridge if item["direction"] == "ROS_TO_GZ"}
    assert bridged == {f"{action['joint']}/cmd_force" for action in robot["actions"]}
