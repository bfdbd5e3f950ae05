# SPDX-License-Identifier: Apache-2.0
"""gazebo.launch.yaml path:=bridge as it stands, with programs that stand in for Gazebo's: an episode with its reset."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from stand_in_packages import make_prefix

from mbrl_bringup.domains import range_of_this_machine, reserved_domain
from mbrl_bringup.launch_runner import LaunchRunner
from mbrl_msgs.action import StartEpisode
from mbrl_msgs.msg import TimeStep
from mbrl_ros import qos

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(__file__).parent / "gazebo_programs"
ROBOT_FILE = ROOT / "config" / "robots" / "pendulum.yaml"
ROBOT_NODE = "from mbrl_robot.nodes.executables import robot_node; robot_node()"


class Bench:
    """The launch file's graph, robot_node, and a test node."""

    def __init__(self, folder: Path, domain: int) -> None:
        texts = {file.stem: f"#!{sys.executable}\n{file.read_text()}" for file in PROGRAMS.glob("*.py")}
        environment = {
            **os.environ,
            **make_prefix(folder / "prefix", texts),
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": range_of_this_machine(),
            "STAND_IN_ROBOT_FILE": str(ROBOT_FILE),
            "STAND_IN_PROGRAM": str(ROOT / "src/mbrl_robot/test/gazebo_stand_in.py"),
        }
        gz = folder / "prefix/bin/gz"
        gz.write_text(texts["gz"])
        gz.chmod(0o755)
        arguments = {"path": "bridge", "gui": "false", "robot": "pendulum"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            self.runner = LaunchRunner(ROOT / "launch/gazebo.launch.yaml", arguments, folder / "log", print)
        self.runner.start()
        words = ["--ros-args", "-p", f"robot_file:={ROBOT_FILE}", "-p", "mode:=simulated"]
        self.robot = subprocess.Popen([sys.executable, "-c", ROBOT_NODE, *words], env=environment)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("bench", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.time_steps: list[TimeStep] = []
        self.joint_states: list[JointState] = []
        self.node.create_subscription(TimeStep, "time_step", self.time_steps.append, qos.TIME_STEP_RECORD)
        self.node.create_subscription(JointState, "joint_states", self.joint_states.append, qos.JOINT_STATES)
        self.clock: list[float] = []
        self.node.create_subscription(Clock, "/clock", self._take_clock, 10)
        self.starts = ActionClient(self.node, StartEpisode, "start_episode")

    def _take_clock(self, message: Clock) -> None:
        """Keeps the newest time of every stretch without a way back."""
        time = message.clock.sec + message.clock.nanosec * 1e-9
        if self.clock and time >= self.clock[-1]:
            self.clock[-1] = time
        else:
            self.clock.append(time)

    def wait(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
        if not condition():
            pytest.fail(f"waited {seconds} s in vain\n{(self.runner.log_directory / 'launch.log').read_text()}")

    def start(self, **goal: Any) -> StartEpisode.Result:
        """Calls start_episode."""
        self.wait(self.starts.server_is_ready)
        sent = self.starts.send_goal_async(StartEpisode.Goal(controller="safe", **goal))
        self.wait(sent.done)
        result = sent.result().get_result_async()
        self.wait(result.done, 40.0)
        return result.result().result

    def close(self) -> None:
        self.runner.stop()
        self.robot.terminate()
        self.robot.wait(10.0)
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The graph of all tests of this module."""
    with reserved_domain() as domain:
        bench = Bench(tmp_path_factory.mktemp("gazebo"), domain)
        yield bench
        bench.close()


def test_an_episode_begins_with_a_reset_of_the_world(bench: Bench) -> None:
    bench.wait(lambda: bench.joint_states)
    assert set(bench.joint_states[-1].name) == {"pivot"} and not any(bench.joint_states[-1].effort)
    result = bench.start(max_steps=10)
    assert result.success, result.message
    bench.wait(lambda: bench.time_steps and bench.time_steps[-1].step_type == TimeStep.LAST)
    steps = bench.time_steps
    assert steps[0].step_type == TimeStep.FIRST and steps[-1].end_reason == TimeStep.TIME_LIMIT
    # The robot is that of a new world, in which nothing has happened yet: it hangs.
    assert steps[0].state == pytest.approx([0.0, 0.0], abs=1e-6)
    assert len(bench.clock) == 2, "time went back once"


def test_joint_positions_cannot_be_asked_for(bench: Bench) -> None:
    result = bench.start(max_steps=10, start_state=[1.0, 0.0])
    assert not result.success and "Gazebo cannot set joint positions" in result.message
