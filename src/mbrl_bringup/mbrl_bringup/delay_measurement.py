# SPDX-License-Identifier: Apache-2.0
"""An episode of the controller `delay_probe` on a robot that is running, and what came back of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_core.messages import EndReason, Plan, StepType
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_msgs.action import StartEpisode
from mbrl_msgs.msg import ControllerState
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_msgs.srv import EndEpisode, SelectController
from mbrl_robot.delay_estimation import Recording
from mbrl_robot.delay_probe import Excitation
from mbrl_ros import qos
from mbrl_ros.conversions import MessageError, plan_to_message, time_step_from_message
from mbrl_ros.steady import now_ns

CONTROLLER = "delay_probe"
# Of the stamps of joint states behind their publication: beyond it the source's clock is not ours.
LARGEST_CLOCK_DIFFERENCE = 0.5  # s
# Of the time steps' distances from the control period.
LARGEST_IRREGULARITY = 0.2
STEP_TIMEOUT = 5.0


class MeasurementFailed(RuntimeError):
    """The episode was none that something can be learned from. The text says why."""


@dataclass(frozen=True)
class Measured:
    """What was recorded: `parts` one recording an action, and by how much joint states' stamps are behind their
    publication, and that behind their arrival here, medians in seconds.
    """

    parts: list[Recording]
    stamped_ago: float
    travelled: float
    clock_is_ours: bool


class DelayMeasurement:
    """Answers the time steps of its episode with the excitation and records commands and joint states.

    `wait` spins until a condition holds or raises TimeoutError.
    """

    def __init__(
        self, node: Node, robot: Robot, excitation: Excitation, wait: Callable[[Callable[[], object], str, float], None]
    ) -> None:
        self._node, self._robot, self._excitation, self._wait = node, robot, excitation, wait
        self._commands: list[tuple[int, list[float]]] = []
        self._samples: list[tuple[int, int, int, Array, Array]] = []
        self._steps: dict[int, int] = {}
        self._system_less_steady_ns = 0
        self._start: Array | None = None
        self._episode = -1
        self._trouble = ""
        self._ended: EndReason | None = None
        self._selected: list[ControllerState] = []
        self._order: list[int] | None = None
        self._plans = node.create_publisher(PlanMessage, "plan", qos.PLAN)
        node.create_subscription(ControllerState, "controller_state", self._selected.append, qos.LATCHED)
        node.create_subscription(TimeStepMessage, "time_step", self._take_time_step, qos.TIME_STEP_RECORD)
        node.create_subscription(Float64MultiArray, robot.command_topic, self._take_command, qos.STATUS)
        node.create_subscription(JointState, "joint_states", self._take_joint_states, qos.EVERY_JOINT_STATE)
        self._starts = ActionClient(node, StartEpisode, "start_episode")
        self._ends = node.create_client(EndEpisode, "end_episode")
        self._selects = node.create_client(SelectController, "select_controller")

    def run(self, timeout: float) -> Measured:
        """Runs the episode. Raises MeasurementFailed, or TimeoutError that says what was waited for."""
        self._wait(lambda: self._selected, "controller_state: is robot_node running in this ROS domain?", timeout)
        self._wait(self._starts.server_is_ready, "the action start_episode", timeout)
        before = self._selected[-1].selected
        try:
            self._begin(timeout)
            while self._ended is None and not self._trouble:
                reached = len(self._steps)
                self._wait(
                    lambda: len(self._steps) > reached or self._ended is not None or self._trouble,  # noqa: B023
                    "the next time step",
                    STEP_TIMEOUT,
                )
        finally:
            self._leave(before)
        if self._trouble:
            raise MeasurementFailed(self._trouble)
        if self._ended != EndReason.TIME_LIMIT:
            assert self._ended is not None
            raise MeasurementFailed(f"the episode ended by {self._ended.name} at step {max(self._steps)}")
        return self._measured()

    def _begin(self, timeout: float) -> None:
        goal = StartEpisode.Goal(
            max_steps=self._excitation.steps, controller=CONTROLLER, required_controllers=[CONTROLLER]
        )
        sent = self._starts.send_goal_async(goal)
        self._wait(sent.done, "an answer of start_episode", timeout)
        if not sent.result().accepted:
            raise MeasurementFailed("start_episode was not accepted")
        result = sent.result().get_result_async()
        self._wait(result.done, "the episode to begin", 4.0 * timeout)
        if not result.result().result.success:
            raise MeasurementFailed(result.result().result.message)

    def _leave(self, before: str) -> None:
        """Ends the episode where it still runs, and gives the robot back to who was selected."""
        calls: list[Any] = []
        if self._episode >= 0 and self._ended is None and self._ends.service_is_ready():
            request = EndEpisode.Request(episode=self._episode, end_reason=int(EndReason.ABORTED))
            calls.append(self._ends.call_async(request))
        if before != CONTROLLER and self._selects.service_is_ready():
            calls.append(self._selects.call_async(SelectController.Request(controller=before)))
        try:
            self._wait(lambda: all(call.done() for call in calls), "the robot to be given back", STEP_TIMEOUT)
        except TimeoutError as error:
            self._node.get_logger().warning(str(error))

    def _take_time_step(self, message: TimeStepMessage) -> None:
        try:
            time_step = time_step_from_message(message, self._robot.spec)
        except MessageError as error:
            self._trouble = f"{error}; is it the robot of --robot that is running?"
            return
        if time_step.step_type == StepType.FIRST:
            self._episode, self._start = time_step.episode, time_step.state
            self._steps.clear()
            self._system_less_steady_ns = time.time_ns() - now_ns()
        if time_step.episode != self._episode or self._start is None:
            return
        self._steps[time_step.step] = message.sample_time_ns
        if time_step.step_type == StepType.LAST:
            self._ended = time_step.end_reason
            return
        outside = [
            joint.name
            for joint, position in zip(self._robot.joints, time_step.state, strict=False)
            if not joint.position_limits[0] <= position <= joint.position_limits[1]
        ]
        if outside and not self._trouble:
            self._trouble = f"joint {outside[0]!r} has left its position limits at step {time_step.step}"
            return
        count = self._robot.spec.max_open_loop_steps + 1
        message_out = plan_to_message(
            Plan(self._excitation.rows(time_step.step, count, self._start)),
            self._robot.spec.interface_hash,
            self._node.get_clock().now().to_msg(),
            episode=time_step.episode,
            start_step=time_step.step,
            answers_step=time_step.step,
            controller=CONTROLLER,
            producer=CONTROLLER,
            task_version=time_step.required_task_version,
        )
        self._plans.publish(message_out)

    def _take_command(self, message: Float64MultiArray, info: dict[str, int]) -> None:
        values = list(message.data)
        if len(values) == self._robot.spec.action.size and np.isfinite(values).all():
            self._commands.append((info["source_timestamp"], values))

    def _take_joint_states(self, message: JointState, info: dict[str, int]) -> None:
        names = list(message.name)
        if self._order is None:
            missing = [joint.name for joint in self._robot.joints if joint.name not in names]
            if missing:
                self._trouble = f"joint_states: has no joint {missing[0]!r}"
                return
            self._order = [names.index(joint.name) for joint in self._robot.joints]
        if len(message.velocity) != len(names) or len(message.position) != len(names):
            self._trouble = "joint_states: expected a position and a velocity of each joint"
            return
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        position, velocity = np.array(message.position)[self._order], np.array(message.velocity)[self._order]
        if np.isfinite(position).all() and np.isfinite(velocity).all():
            arrival_ns = info["received_timestamp"]
            self._samples.append((stamp_ns, info["source_timestamp"], arrival_ns, position, velocity))

    def _measured(self) -> Measured:
        self._check_realtime()
        stamps = np.array([sample[:3] for sample in self._samples], dtype=np.int64)
        ago = (stamps[:, 1] - stamps[:, 0]) * 1e-9
        ours = bool(abs(np.median(ago)) < LARGEST_CLOCK_DIFFERENCE)
        origin = int(stamps[0, 1])
        times = (stamps[:, 0 if ours else 1] - origin) * 1e-9
        kept = np.concatenate([[True], np.diff(np.maximum.accumulate(times)) > 0.0])
        positions = np.array([sample[3] for sample in self._samples])[kept]
        velocities = np.array([sample[4] for sample in self._samples])[kept]
        sent = sorted(self._commands, key=lambda item: item[0])
        command_times = np.array([(time_ns - origin) * 1e-9 for time_ns, _ in sent])
        commands = np.array([values for _, values in sent])
        angular = np.array([joint.kind == "angular" for joint in self._robot.joints])
        parts = []
        # Steps are told in steady time; what is recorded is in that of the stamps.
        first = (self._steps[0] + self._system_less_steady_ns - origin) * 1e-9
        period, times = self._robot.spec.period, times[kept]
        for turn in range(self._excitation.turns):
            begin, end = (first + step * period for step in self._excitation.part(turn))
            of_turn = (times >= begin) & (times < end)
            parts.append(
                Recording(times[of_turn], positions[of_turn], velocities[of_turn], angular, command_times, commands)
            )
        return Measured(parts, float(np.median(ago)), float(np.median((stamps[:, 2] - stamps[:, 1]) * 1e-9)), ours)

    def _check_realtime(self) -> None:
        if 0 not in self._steps or len(self._steps) < 2:
            raise MeasurementFailed("the first time steps of the episode were lost")
        if len(self._samples) < 2 or len(self._commands) < 2:
            raise MeasurementFailed(
                f"{len(self._samples)} joint states and {len(self._commands)} commands on"
                f" {self._robot.command_topic!r} were heard, expected hundreds"
            )
        numbers = sorted(self._steps)
        apart = np.diff([self._steps[number] for number in numbers]) * 1e-9 / np.diff(numbers)
        period = self._robot.spec.period
        if abs(float(np.median(apart)) - period) > LARGEST_IRREGULARITY * period:
            raise MeasurementFailed(
                f"a control period takes {float(np.median(apart)):.4f} s, expected {period:g} s: a delay is measured in"
                " mode realtime"
            )
