# SPDX-License-Identifier: Apache-2.0
"""The recorder as a process of its own: stopped, killed, and on a full disk."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor

from mbrl_core.messages import StepType, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import Model, RobotSpec
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_policy import bags
from mbrl_ros import qos
from mbrl_ros.conversions import spec_to_message, time_step_to_message

ROBOT_FILE = """
name: slide
control: {period: 0.02}
joints: [{name: x, kind: linear}]
actions: [{joint: x, limits: [-1.0, 1.0], scale: 2.0}]
"""
DOMAIN = 60 + os.getpid() % 10


class Robot:
    """Publishes what a robot would, and hears what the recorder says of itself."""

    def __init__(self, directory: Path) -> None:
        self.robot_file = directory / "slide.yaml"
        self.robot_file.write_text(ROBOT_FILE, encoding="utf-8")
        self.spec = load_robot(self.robot_file).spec
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.specs = self.node.create_publisher(RobotSpec, "robot_spec", qos.LATCHED)
        self.steps = self.node.create_publisher(TimeStepMessage, "time_step", qos.TIME_STEP_RECORD)
        self.models = self.node.create_publisher(Model, "model", qos.LATCHED)
        self.figures: dict[str, str] = {}
        self.level = b"\x00"
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)
        self.specs.publish(spec_to_message(self.spec, self.node.get_clock().now().to_msg()))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "/recorder":
                self.figures = {item.key: item.value for item in status.values}
                self.level = status.level

    def start_recorder(self, run_directory: Path) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-c",
            "from mbrl_policy.nodes.executables import recorder_node; recorder_node()",
            "--ros-args",
        ]
        for name, value in (("robot_file", self.robot_file), ("run_directory", run_directory)):
            command += ["-p", f"{name}:={value}"]
        process = subprocess.Popen(
            command, env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)}, stderr=subprocess.PIPE, text=True
        )
        self.until(lambda: self.steps.get_subscription_count() == 1 and bool(self.figures), "the recorder is there")
        return process

    def step(self, number: int) -> None:
        time_step = TimeStep(
            episode=1,
            step=number,
            step_type=StepType.MID if number else StepType.FIRST,
            state=np.array([number, 0.1]),
            action=np.array([0.5 if number else np.nan]),
            action_valid=number > 0,
            committed_actions=np.zeros((0, 1)),
        )
        stamp = self.node.get_clock().now().to_msg()
        self.steps.publish(time_step_to_message(time_step, self.spec.interface_hash, stamp))

    def until(self, condition, what: str, timeout: float = 15.0) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited {timeout} s until {what}; recorder says {self.figures}"
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    robot = Robot(tmp_path)
    yield robot
    robot.close()


def publish_steps(robot: Robot, count: int) -> None:
    for number in range(count):
        robot.step(number)
        time.sleep(0.002)


def test_a_stopped_recorder_leaves_a_whole_bag(robot: Robot, tmp_path: Path) -> None:
    recorder = robot.start_recorder(tmp_path / "run")
    publish_steps(robot, 200)
    robot.until(lambda: int(robot.figures.get("recorded", 0)) > 200, "all is recorded")
    recorder.send_signal(signal.SIGTERM)
    assert recorder.wait(timeout=3.0) == 0
    assert (tmp_path / "run" / "bag" / "metadata.yaml").exists()
    transitions = bags.read_transitions(tmp_path / "run" / "bag")
    assert len(transitions) == 199
    assert transitions.step.tolist() == list(range(199))
    # Messages that came before the recorder are there as well when they are latched.
    assert bags.read_spec(tmp_path / "run" / "bag").interface_hash == robot.spec.interface_hash


def test_a_killed_recorder_loses_almost_nothing(robot: Robot, tmp_path: Path) -> None:
    recorder = robot.start_recorder(tmp_path / "run")
    publish_steps(robot, 300)
    time.sleep(0.5)  # longer than one flush
    recorder.kill()
    recorder.wait()
    assert not (tmp_path / "run" / "bag" / "metadata.yaml").exists()
    bags.recover(tmp_path / "run" / "bag")
    assert len(bags.read_transitions(tmp_path / "run" / "bag")) == 299
    # The next one takes a name of its own.
    recorder = robot.start_recorder(tmp_path / "run")
    robot.until((tmp_path / "run" / "bag_1").exists, "the second bag is open")
    time.sleep(0.5)
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(timeout=3.0) == 0
    assert (tmp_path / "run" / "bag_1" / "metadata.yaml").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount_point)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs rights that this user lacks")
    yield mount_point
    subprocess.run(["umount", "-l", str(mount_point)], check=True)


def fill_disk(robot: Robot, recorder: "subprocess.Popen[str]") -> None:
    publish_steps(robot, 100)
    robot.until(lambda: int(robot.figures.get("recorded", 0)) > 100, "all is recorded")
    for version in range(1, 30):
        robot.models.publish(Model(version=version, weights=bytes(500_000)))
        time.sleep(0.02)
    robot.until(lambda: "refused/disk" in robot.figures, "the full disk is reported")
    assert robot.level == b"\x02"
    offered, recorded = int(robot.figures["offered"]), int(robot.figures["recorded"])
    assert 100 < recorded < offered
    # Still alive, still counting.
    robot.step(100)
    robot.until(lambda: int(robot.figures["offered"]) > offered, "the node goes on")
    recorder.send_signal(signal.SIGTERM)
    _, errors = recorder.communicate(timeout=3.0)
    assert recorder.returncode == 0
    assert "No space left on device" in errors and "expected room for the bag" in errors


def test_a_full_disk_ends_the_recording_not_the_node(robot: Robot, tmp_path: Path, small_disk: Path) -> None:
    fill_disk(robot, robot.start_recorder(small_disk / "run"))
    # Closed from the reserve: no recovery needed.
    assert len(bags.read_transitions(small_disk / "run" / "bag")) == 99


def test_a_recorder_that_cannot_write_says_so(robot: Robot, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, not a folder", encoding="utf-8")
    recorder = robot.start_recorder(blocked)
    robot.until(lambda: "refused/disk" in robot.figures, "the failure is reported")
    recorder.send_signal(signal.SIGTERM)
    _, errors = recorder.communicate(timeout=3.0)
    assert f"recording in {blocked}" in errors
