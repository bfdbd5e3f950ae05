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
from sensor_msgs.msg import CompressedImage

from mbrl_core.config import ConfigurationError
from mbrl_core.messages import StepType, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import EpisodeLabel, Model, RobotSpec
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_msgs.srv import Record
from mbrl_policy import bags
from mbrl_policy.nodes.recorded_topics import extra_topics
from mbrl_ros import qos
from mbrl_ros.bag_reading import read_stamped
from mbrl_ros.conversions import spec_to_message, time_step_to_message

ROBOT_FILE = """
name: slide
control: {period: 0.02}
joints: [{name: x, kind: linear}]
actions: [{joint: x, limits: [-1.0, 1.0], scale: 2.0}]
"""
RECORDER = "from mbrl_policy.nodes.executables import recorder_node; recorder_node()"
# A recorder that is driven by hand: it waits while standard input says so, and then gets so many wake-ups.
STALLED = """
import select, sys, rclpy
from rclpy.executors import SingleThreadedExecutor
from mbrl_policy.nodes.recorder_node import RecorderNode
rclpy.init()
executor = SingleThreadedExecutor()
executor.add_node(RecorderNode())
while not select.select([sys.stdin], [], [], 0)[0]:
    executor.spin_once(timeout_sec=0.05)
sys.stdin.readline()
for _ in range(int(sys.stdin.readline())):
    executor.spin_once(timeout_sec=0.05)
print("awake", flush=True)
sys.stdin.readline()
"""


class Robot:
    """Publishes what a robot would, and hears what the recorder says of itself."""

    def __init__(self, directory: Path, domain: int) -> None:
        self._domain = domain
        self.robot_file = directory / "slide.yaml"
        self.robot_file.write_text(ROBOT_FILE, encoding="utf-8")
        self.spec = load_robot(self.robot_file).spec
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.specs = self.node.create_publisher(RobotSpec, "robot_spec", qos.LATCHED)
        self.steps = self.node.create_publisher(TimeStepMessage, "time_step", qos.TIME_STEP_RECORD)
        self.models = self.node.create_publisher(Model, "model", qos.LATCHED)
        self._processes: list[subprocess.Popen[str]] = []
        self.figures: dict[str, str] = {}
        self.level = b"\x00"
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)
        self.specs.publish(spec_to_message(self.spec, self.node.get_clock().now().to_msg()))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "/recorder":
                self.figures = {item.key: item.value for item in status.values}
                self.level = status.level

    def start_recorder(self, run_directory: Path, code: str = RECORDER, **changes: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, "--ros-args"]
        values = {"robot_file": self.robot_file, "run_directory": run_directory, "minimum_free_space": 0.0, **changes}
        for name, value in values.items():
            command += ["-p", f"{name}:={value}"]
        process = subprocess.Popen(
            command,
            env={**os.environ, "ROS_DOMAIN_ID": str(self._domain)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        self.until(lambda: self.steps.get_subscription_count() == 1 and bool(self.figures), "the recorder is there")
        return process

    def record(self, command: int, **label: object) -> Record.Response:
        """Calls the service."""
        client = self.node.create_client(Record, "record")
        self.until(client.service_is_ready, "the service record is there")
        future = client.call_async(Record.Request(command=command, label=EpisodeLabel(**label)))
        self.until(future.done, "an answer of record")
        response = future.result()
        assert response is not None
        return response

    def step(self, number: int, episode: int = 1) -> None:
        time_step = TimeStep(
            episode=episode,
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
        for process in self._processes:
            process.kill()
            process.wait()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def robot(tmp_path: Path, free_domain: int) -> Iterator[Robot]:
    robot = Robot(tmp_path, free_domain)
    yield robot
    robot.close()


def publish_steps(robot: Robot, count: int, episode: int = 1) -> None:
    for number in range(count):
        robot.step(number, episode)
        time.sleep(0.002)


def end(recorder: "subprocess.Popen[str]") -> str:
    """Stops a recorder; returns what it has said."""
    recorder.send_signal(signal.SIGTERM)
    _, errors = recorder.communicate(timeout=3.0)
    assert recorder.returncode == 0
    return errors


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


def test_what_waits_is_recorded_at_few_wake_ups_with_the_times_at_which_it_came(robot: Robot, tmp_path: Path) -> None:
    recorder = robot.start_recorder(tmp_path / "run", STALLED)
    assert recorder.stdin is not None and recorder.stdout is not None
    recorder.stdin.write("wait\n")
    recorder.stdin.flush()
    time.sleep(0.2)  # a wake-up that is under way ends
    for number in range(900):
        robot.step(number)
        time.sleep(0.001)
    time.sleep(1.0)
    recorder.stdin.write("40\n")
    recorder.stdin.flush()
    assert recorder.stdout.readline() == "awake\n"
    recorder.kill()
    recorder.wait()
    bag = tmp_path / "run" / "bag"
    bags.recover(bag)
    assert [step.step for step in bags.read_time_steps(bag)] == list(range(900))
    for _, received_ns, message in read_stamped(bag, ("time_step",)):
        sent_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        assert 0 <= received_ns - sent_ns < 500_000_000


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


def test_bags_are_opened_labelled_and_finished_by_service(robot: Robot, tmp_path: Path) -> None:
    recorder = robot.start_recorder(tmp_path / "run", record_at_once=False)
    publish_steps(robot, 5)
    refused = robot.record(Record.Request.LABEL, episode=1)
    assert not refused.success and "START first, label before STOP" in refused.message
    assert not (tmp_path / "run").exists()
    for episode, folder in ((2, "bag"), (3, "bag_1")):
        started = robot.record(Record.Request.START)
        assert started.success and started.bag == str(tmp_path / "run" / folder)
        assert robot.record(Record.Request.START).bag == started.bag
        publish_steps(robot, 20, episode)
        assert robot.record(Record.Request.LABEL, outcome=EpisodeLabel.FAILURE).success
        label = robot.record(Record.Request.LABEL, outcome=EpisodeLabel.SUCCESS, task="lift", note="gently")
        assert label.success and label.episode == episode
        early = robot.record(Record.Request.LABEL, episode=1, discarded=True)
        assert early.success and early.episode == 1
        stopped = robot.record(Record.Request.STOP)
        assert stopped.success and stopped.bag == started.bag
        labels = [message for _, message in bags.read_messages(started.bag, ("episode_label",))]
        said = [(item.episode, item.outcome, item.discarded, item.task, item.note) for item in labels]
        assert said == [(episode, 2, False, "", ""), (episode, 1, False, "lift", "gently"), (1, 0, True, "", "")]
        assert {step.episode for step in bags.read_time_steps(started.bag)} == {episode}
        # Said once, before either bag was there.
        assert bags.read_spec(started.bag).interface_hash == robot.spec.interface_hash
    assert robot.record(Record.Request.STOP).bag == ""
    end(recorder)


@pytest.mark.parametrize(
    ("command", "label", "text"),
    [
        (9, {}, "command 9, expected 1 (START), 2 (STOP) or 3 (LABEL)"),
        (Record.Request.LABEL, {"outcome": 7}, "outcome 7, expected 0 (UNLABELLED)"),
        (Record.Request.LABEL, {"episode": 8}, "episode 8, expected one that there has been; the newest is 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    robot: Robot, tmp_path: Path, command: int, label: dict[str, object], text: str
) -> None:
    recorder = robot.start_recorder(tmp_path / "run")
    publish_steps(robot, 5)
    robot.until(lambda: int(robot.figures.get("recorded", 0)) > 5, "all is recorded")
    answer = robot.record(command, **label)
    assert not answer.success and text in answer.message
    robot.until(lambda: robot.figures.get("refused/record") == "1", "the refusal is counted")
    assert text in end(recorder)
    assert len(bags.read_transitions(tmp_path / "run" / "bag")) == 4


def test_topics_of_the_user_are_recorded_beside(robot: Robot, tmp_path: Path) -> None:
    camera = robot.node.create_publisher(CompressedImage, "camera/compressed", 10)
    recorder = robot.start_recorder(tmp_path / "run", topics="['camera/compressed sensor_msgs/msg/CompressedImage']")
    robot.until(lambda: camera.get_subscription_count() == 1, "the recorder listens to the camera")
    for number in range(10):
        camera.publish(CompressedImage(format="jpeg", data=bytes([number] * 1000)))
        time.sleep(0.01)
    robot.until(lambda: int(robot.figures.get("recorded", 0)) > 10, "all is recorded")
    end(recorder)
    pictures = [message for _, message in bags.read_messages(tmp_path / "run" / "bag", ("compressed",))]
    assert [int(picture.data[0]) for picture in pictures] == list(range(10))


@pytest.mark.parametrize("entry", ["camera", "camera no_such_package/msg/Image", "camera sensor_msgs/msg/NoSuchType"])
def test_topics_of_no_type_are_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="expected 'NAME PACKAGE/msg/TYPE' of a package that is there"):
        extra_topics([entry])


def test_a_disk_with_too_little_space_is_left_alone(robot: Robot, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    recorder = robot.start_recorder(tmp_path / "run", minimum_free_space=1e12, record_at_once=False)
    answer = robot.record(Record.Request.START)
    assert not answer.success and "MB free, expected at least 1e+12 MB" in answer.message
    end(recorder)
    assert not list((tmp_path / "run").iterdir())
