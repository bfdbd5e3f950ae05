# SPDX-License-Identifier: Apache-2.0
"""Sends the robot's safe action when robot_node is gone: killed, frozen, or cut off. A process of its own, small.

It listens to the command topic itself, on which robot_node sends something every control period whether an episode runs
or not. While anybody else sends there, this node does not.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray

from mbrl_core.config import parameter
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_msgs.msg import ControllerState
from mbrl_robot.executor import NOBODY
from mbrl_robot.nodes.on_demand import OnDemand
from mbrl_robot.nodes.precedence import memory_parameter, priority_parameter, settle
from mbrl_robot.state_estimation import JointStatesRefused, StateEstimator
from mbrl_robot.watchdog import CommandRefused, OwnCommands, StopMemory, Watch, Watchdog
from mbrl_ros import qos
from mbrl_ros.conversions import to_doubles
from mbrl_ros.health import Health
from mbrl_ros.parameters import declare, finish
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns, steady_timer
from mbrl_ros.workload import Workload

LAST_WORDS = Duration(seconds=0.5)
REPORT_PERIOD = 1.0
# A command may lie in the queue when the time is up, most of all when this process itself was held up: the first time
# this long before it is up, and then once more, the queue comes first. At most this share of a control period.
SECOND_LOOK_NS = 2_000_000
SECOND_LOOK_SHARE = 0.1
# The silence counts from when a command was sent, if its stamp is at most so old, in control periods. An older one has
# waited here, or its sender's clock is another.
LONGEST_WAY = 0.25


@dataclass(frozen=True)
class WatchdogConfiguration:
    """Parameters of watchdog_node."""

    robot_file: str = parameter("", "Robot file (YAML): command topic, period, limits, safe action", read_only=True)
    mode: str = parameter(
        "realtime", "Mode of robot_node; in lockstep a pause is no death, and this node never commands",
        choices=("realtime", "lockstep"), read_only=True,
    )  # fmt: skip
    timeout_periods: float = parameter(
        2.5,
        "Silence after which the safe action is sent, control periods; the first command of an episode takes 1.75",
        minimum=2.0,
        maximum=2.9,
        read_only=True,
    )
    joint_states_timeout: float = parameter(
        0.2, "Age of the newest joint states, seconds, from which on the state counts as unknown", minimum=0.001,
        read_only=True,
    )  # fmt: skip
    scheduling_priority: int = priority_parameter()
    lock_memory: bool = memory_parameter()


class WatchdogNode(Node):
    """Listens to commands, joint_states and controller_state; publishes commands only while robot_node is silent.

    All its times are steady: a simulator that pauses or goes back in time changes nothing, since robot_node ticks on
    the steady clock as well. Joint states whose stamps go back are of a new beginning and taken from there.
    """

    def __init__(self) -> None:
        super().__init__("watchdog")
        configuration = declare(self, WatchdogConfiguration)
        finish(self)
        self._robot = load_robot(configuration.robot_file)
        self._watchdog = Watchdog(self._robot, configuration.timeout_periods)
        self._own = OwnCommands()
        self._estimator = StateEstimator(self._robot)
        self._state_timeout_ns = round(configuration.joint_states_timeout * 1e9)
        self._period_ns = round(self._robot.spec.period * 1e9)
        self._second_look_ns = min(SECOND_LOOK_NS, round(SECOND_LOOK_SHARE * self._period_ns))
        self._looked_again = False
        self._sent = 0
        self._health = Health(self)
        self._work = Workload("command", self._robot.spec.period)
        self._health.follow(self._work.figures)
        self._topic = self._robot.command_topic
        self._commands = self.create_publisher(
            Float64MultiArray, self._topic, qos.COMMAND, event_callbacks=qos.QUIET_PUBLISHER
        )
        self._stop = StopMemory()
        self._stops = self.create_publisher(Bool, "emergency_stop", qos.LATCHED, event_callbacks=qos.QUIET_PUBLISHER)
        self._joint_states: Subscription | None = None
        self._timer = steady_timer(self, self._robot.spec.period, self._time_is_up)
        self._timer.cancel()
        if configuration.mode == "realtime":
            self._listen()
        self._health.set("mode", configuration.mode)
        steady_timer(self, REPORT_PERIOD, self._report)
        self.get_logger().info(f"robot {self._robot.spec.name!r}: safe action {self._robot.safe_action.kind}")
        settle(self._health, configuration.scheduling_priority, configuration.lock_memory, only_used=True)

    def destroy_node(self) -> None:
        """Sends zero, or the present position, if it is this node that commands, and ends."""
        if self._watchdog.state is Watch.TRIPPED:
            command = self._watchdog.last_command(self._state_or_none(now_ns()))
            if command is not None:
                self._publish(command)
                self._commands.wait_for_all_acked(LAST_WORDS)
        super().destroy_node()

    def _listen(self) -> None:
        # Commands come first in the executor's order, too: a farewell is the last word.
        self.create_subscription(
            Float64MultiArray,
            self._topic,
            self._take_command,
            qos.COMMAND_FROM_ALL,
            event_callbacks=qos.QUIET_SUBSCRIPTION,
        )
        self.create_subscription(
            ControllerState,
            "controller_state",
            self._take_controller_state,
            qos.LATCHED,
            event_callbacks=qos.QUIET_SUBSCRIPTION,
        )
        self._joint_states = self.create_subscription(
            JointState,
            "joint_states",
            self._take_joint_states,
            qos.NEWEST_JOINT_STATES,
            callback_group=OnDemand(),
            event_callbacks=qos.QUIET_SUBSCRIPTION,
        )

    def _take_command(self, message: Float64MultiArray, info: dict[str, Any]) -> None:
        stamp_ns = info["source_timestamp"]
        if not self._own.include(stamp_ns):
            with self._work.piece():
                self._take_foreign_command(message, stamp_ns)

    def _take_foreign_command(self, message: Float64MultiArray, stamp_ns: int) -> None:
        tripped = self._watchdog.state is Watch.TRIPPED
        on_its_way_ns = time.time_ns() - stamp_ns
        if not 0 <= on_its_way_ns <= LONGEST_WAY * self._period_ns:
            on_its_way_ns = 0
        try:
            self._watchdog.commanded(np.array(message.data, dtype=np.float64), now_ns() - on_its_way_ns, stamp_ns)
        except CommandRefused as error:
            self._health.refuse(f"command/{error.reason}", f"{self._topic}: {error}")
            return
        if self._watchdog.state is Watch.ARMED:
            self._looked_again = False
            self._wake_after(self._watchdog.due_ns - self._second_look_ns - now_ns())
        if tripped:
            self._health.ok()
            self._report()
            self._health.publish()
            self.get_logger().warning(f"{self._topic}: somebody commands again; {self._sent} commands sent so far")

    def _take_controller_state(self, message: ControllerState, info: dict[str, Any]) -> None:
        said = self._stop.say(bytes(info["publisher_gid"]["data"]), message.emergency_stop)
        if said is not None:
            self._stops.publish(Bool(data=said))
            if said:
                self.get_logger().error("robot_node has started again while the emergency stop was latched: still is")
        if message.active == NOBODY:
            self._watchdog.farewell(now_ns(), info["source_timestamp"])
            self._timer.cancel()
            self._health.ok("robot_node has ended")

    def _look_at_joint_states(self) -> None:
        if self._joint_states is None:
            return
        with self._joint_states.handle:
            taken = self._joint_states.handle.take_message(JointState, False)
        if taken is not None:
            self._take_joint_states(*taken)

    def _take_joint_states(self, message: JointState, info: dict[str, Any]) -> None:
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        received_ns = info["received_timestamp"]
        # Not every middleware notes when it has received something.
        waited_ns = max(time.time_ns() - received_ns, 0) if received_ns else 0
        latest = self._estimator.latest
        if latest is not None and stamp_ns < latest.stamp_ns:
            self._estimator.restart(stamp_ns)
        try:
            self._estimator.update(message.name, message.position, message.velocity, stamp_ns, now_ns() - waited_ns)
        except JointStatesRefused as error:
            self._health.refuse(f"joint_states/{error.reason}", str(error))

    def _time_is_up(self) -> None:
        time_ns = now_ns()
        if self._watchdog.state is Watch.IDLE:
            self._timer.cancel()
            return
        trips = self._watchdog.state is Watch.ARMED
        if trips and not self._looked_again:
            self._looked_again = True
            self._wake_after(self._second_look_ns)
            return
        if not self._watchdog.is_due(time_ns):
            self._wake_after(self._watchdog.due_ns - time_ns)
            return
        silence_ns = self._watchdog.silence_ns(time_ns)
        self._publish(self._watchdog.command(self._state_or_none(time_ns)))
        if trips:
            self._wake_after(self._period_ns)
            kind = self._robot.safe_action.kind
            text = f"no command on {self._topic} for {silence_ns * 1e-6:.0f} ms: the watchdog sends the safe action"
            self._health.error(f"{text} ({kind})")
            self._report()
            self._health.publish()
            self.get_logger().error(f"{text} ({kind})")

    def _wake_after(self, delay_ns: int) -> None:
        """And as much later again, where nothing else is asked for."""
        self._timer.timer_period_ns = max(delay_ns, 1)
        self._timer.reset()

    def _publish(self, command: Array) -> None:
        before_ns = time.time_ns()
        self._commands.publish(Float64MultiArray(data=to_doubles(command)))
        self._own.sent(before_ns, time.time_ns())
        self._sent += 1

    def _state_or_none(self, time_ns: int) -> Array | None:
        self._look_at_joint_states()
        sample = self._estimator.latest
        if sample is None or time_ns - sample.arrival_ns > self._state_timeout_ns:
            return None
        return sample.state

    def _report(self) -> None:
        self._look_at_joint_states()
        watchdog, time_ns = self._watchdog, now_ns()
        self._health.set("state", watchdog.state.value)
        self._health.set("armed", watchdog.state is not Watch.IDLE)
        self._health.set("trips", watchdog.trips)
        self._health.set("commands_sent", self._sent)
        self._health.set("command_age_ms", watchdog.silence_ns(time_ns) * 1e-6)
        self._health.set("longest_silence_periods", watchdog.longest_silence_ns / self._period_ns)
        sample = self._estimator.latest
        age_ms = float("nan") if sample is None else (time_ns - sample.arrival_ns) * 1e-6
        self._health.set("joint_states_age_ms", age_ms)


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(WatchdogNode)
