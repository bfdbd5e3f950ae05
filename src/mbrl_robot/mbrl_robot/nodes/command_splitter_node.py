# SPDX-License-Identifier: Apache-2.0
"""Splits a command for all joints into one topic per joint, which is what Gazebo's plugins listen to: ApplyJointForce,
JointController or JointPositionController.

Gazebo goes on with the last command for ever, so this node sends zero when commands stop coming and when it ends; to
joints that are driven by positions it sends the positions that they are at.
"""

import math
from dataclasses import dataclass

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray

from mbrl_core.command_interfaces import JOINT_TOPICS, rest_action
from mbrl_core.config import parameter
from mbrl_core.robot_file import load_robot
from mbrl_robot.state_estimation import JointStatesRefused, StateEstimator
from mbrl_ros import qos
from mbrl_ros.health import Health
from mbrl_ros.parameters import declare, finish
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns, steady_timer

CHECKS_PER_TIMEOUT = 4
# A signal is served at the next check, so checks come often even where the time-out is long.
LONGEST_CHECK_PERIOD = 0.1
LAST_WORDS = Duration(seconds=0.5)


@dataclass(frozen=True)
class CommandSplitterConfiguration:
    """Parameters of the command splitter."""

    robot_file: str = parameter("", "Robot file (YAML): names the command topic and its joints", read_only=True)


class CommandSplitterNode(Node):
    """Float64MultiArray [action_size] (SI) on the robot's command topic to one Float64 per joint.

    The time-out is the robot file's `simulation.command_timeout`, in simulated seconds with use_sim_time and in steady
    seconds without.
    """

    def __init__(self) -> None:
        super().__init__("command_splitter")
        configuration = declare(self, CommandSplitterConfiguration)
        finish(self)
        robot = load_robot(configuration.robot_file)
        self._robot = robot
        self._topic = robot.command_topic
        self._joints = robot.spec.action.names
        self._timeout_ns = round(robot.simulation.command_timeout * 1e9)
        self._simulated_time = bool(self.get_parameter("use_sim_time").value)
        self._last_command_ns: int | None = None
        self._health = Health(self)
        self._publishers_of_joints = [
            self.create_publisher(Float64, f"{joint}/{JOINT_TOPICS[robot.interface]}", qos.COMMAND)
            for joint in self._joints
        ]
        self._estimator = StateEstimator(robot)
        if robot.interface == "position":
            self.create_subscription(JointState, "joint_states", self._take_joint_states, qos.JOINT_STATES)
        self.create_subscription(Float64MultiArray, self._topic, self._split, qos.COMMAND)
        check_period = min(robot.simulation.command_timeout / CHECKS_PER_TIMEOUT, LONGEST_CHECK_PERIOD)
        steady_timer(self, check_period, self._stop_when_silent)

    def destroy_node(self) -> None:
        """Sends rest, waits until it has arrived, and ends."""
        self._rest()
        for publisher in self._publishers_of_joints:
            publisher.wait_for_all_acked(LAST_WORDS)
        super().destroy_node()

    def _split(self, message: Float64MultiArray) -> None:
        command = list(message.data)
        if len(command) != len(self._joints):
            expected = f"{len(self._joints)} ({', '.join(self._joints)})"
            self._health.refuse("wrong_length", f"{self._topic}: {len(command)} numbers, expected {expected}")
            return
        if not all(math.isfinite(value) for value in command):
            self._health.refuse("non_finite", f"{self._topic}: {command}, expected finite numbers")
            return
        self._last_command_ns = self._now_ns()
        self._send(command)

    def _stop_when_silent(self) -> None:
        if self._last_command_ns is None:
            return
        silence_ns = self._now_ns() - self._last_command_ns
        # Negative: the simulation was reset, and the last command belongs to the time before.
        if silence_ns < 0 or silence_ns > self._timeout_ns:
            self._last_command_ns = None
            self._rest()
            sent = "its positions" if self._robot.interface == "position" else "zero"
            self.get_logger().warning(
                f"{self._topic}: no command for more than {self._timeout_ns / 1e9:g} s, or a backward clock;"
                f" sent {sent}"
            )

    def _take_joint_states(self, message: JointState) -> None:
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        latest = self._estimator.latest
        if latest is not None and stamp_ns < latest.stamp_ns:
            # The simulation was reset.
            self._estimator.restart(stamp_ns)
        try:
            self._estimator.update(message.name, message.position, message.velocity, stamp_ns, now_ns())
        except JointStatesRefused as error:
            self._health.refuse(f"joint_states/{error.reason}", str(error))

    def _rest(self) -> None:
        latest = self._estimator.latest
        positions = None if latest is None else latest.state[np.array(self._robot.action_joints)]
        command = rest_action(self._robot.interface, len(self._joints), positions)
        # Joints of unknown positions go on holding the last one they were told.
        if command is not None:
            self._send(command.tolist())

    def _send(self, command: list[float]) -> None:
        for publisher, value in zip(self._publishers_of_joints, command, strict=True):
            publisher.publish(Float64(data=value))

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds) if self._simulated_time else now_ns()


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(CommandSplitterNode)
