# SPDX-License-Identifier: Apache-2.0
"""What hardware_node knows of robot, controller and graph at a moment."""

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.time import Time
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.nodes.on_demand import OnDemand
from mbrl_robot.readiness import REST_TIME, Observation, rate_of
from mbrl_robot.state_estimation import JointStatesRefused, StateEstimator
from mbrl_ros import qos
from mbrl_ros.steady import now_ns

# Those who command a robot of this suite.
COMMANDERS = ("robot", "watchdog")
# What was said on /diagnostics counts for so long.
HEARSAY_NS = 3_000_000_000
STAMPS = 50
WATCHDOG = "watchdog"
# What rclpy calls a node whose name has not been heard yet, and how long that may take.
UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
NAMING_NS = 2_000_000_000


class HardwareObserver:
    """Looks at joint_states when asked to: they come hundreds of times a second, and are needed a few times.

    A subscription holds the newest ones, which follow each other closely: their stamps tell the rate.
    """

    def __init__(self, node: Node, robot: Robot, controller: str, manager: str) -> None:
        self._node = node
        self._topic = robot.command_topic
        self._controller = controller
        self._estimator = StateEstimator(robot)
        self._velocities = slice(len(robot.joints), 2 * len(robot.joints))
        self._refused = ""
        self._nameless: dict[bytes, int] = {}
        self._description: str | None = None
        self._heard: dict[str, tuple[str, int]] = {}
        self._stamps: list[int] = []
        self._speeds: list[tuple[int, Array]] = []
        namespace = node.get_namespace().rstrip("/")
        self._watchdog_name = f"{namespace}/{WATCHDOG}"
        # diagnostic_updater leaves the namespace out unless its parameter use_fqn is set.
        activity = f"{manager}: Controllers Activity"
        self._activity_names = (f"{namespace}/{activity}",) + (() if namespace else (activity,))
        self._states = node.create_subscription(
            JointState,
            "joint_states",
            self._take,
            qos.JOINT_STATES,
            callback_group=OnDemand(),
            event_callbacks=qos.QUIET_SUBSCRIPTION,
        )
        node.create_subscription(
            String, "robot_description", self._take_description, qos.LATCHED, event_callbacks=qos.QUIET_SUBSCRIPTION
        )
        node.create_subscription(
            DiagnosticArray, "/diagnostics", self._hear, qos.STATUS, event_callbacks=qos.QUIET_SUBSCRIPTION
        )

    @property
    def stamp_ns(self) -> int:
        """Stamp of the newest joint states, nanoseconds; 0 before any."""
        sample = self._estimator.latest
        return 0 if sample is None else sample.stamp_ns

    def state(self) -> Array | None:
        """The newest state [state_size], None before any."""
        while True:
            with self._states.handle:
                taken = self._states.handle.take_message(JointState, False)
            if taken is None:
                break
            self._take(*taken)
        sample = self._estimator.latest
        return None if sample is None else sample.state

    def look(self) -> Observation:
        """All that the checks want to know."""
        time_ns = now_ns()
        state = self.state()
        sample = self._estimator.latest
        return Observation(
            state=state,
            fastest=self._fastest(time_ns),
            states_age=float("inf") if sample is None else (time_ns - sample.arrival_ns) * 1e-9,
            states_rate=rate_of(self._stamps),
            states_refused=self._refused,
            description=self._description,
            controllers=self._controllers(),
            controller_state=self._said_lately("controller", time_ns),
            watchdog_state=self._said_lately("watchdog", time_ns),
            emergency_stops=self._emergency_stops(),
            others=self._others(),
        )

    def _fastest(self, time_ns: int) -> Array | None:
        """Largest speeds [joints] lately; of the newest state alone where that is old."""
        self._speeds = [item for item in self._speeds if time_ns - item[0] < REST_TIME * 1e9] or self._speeds[-1:]
        return np.max([speeds for _, speeds in self._speeds], axis=0) if self._speeds else None

    def _take(self, message: JointState, info: dict[str, int]) -> None:
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        received_ns = info["received_timestamp"]
        waited_ns = max(time.time_ns() - received_ns, 0) if received_ns else 0
        latest = self._estimator.latest
        if latest is not None and stamp_ns < latest.stamp_ns:
            self._estimator.restart(stamp_ns)
            self._stamps.clear()
        try:
            sample = self._estimator.update(
                message.name, message.position, message.velocity, stamp_ns, now_ns() - waited_ns
            )
        except JointStatesRefused as error:
            self._refused = str(error)
            return
        if sample is not None:
            self._speeds.append((now_ns(), np.abs(sample.state[self._velocities])))
        self._refused = ""
        self._stamps = [*self._stamps[1 - STAMPS :], stamp_ns]

    def _take_description(self, message: String) -> None:
        self._description = message.data

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._watchdog_name:
                self._note("watchdog", status, "state")
            elif status.name in self._activity_names:
                self._note("controller", status, f"{self._controller}.state")

    def _note(self, what: str, status: DiagnosticStatus, key: str) -> None:
        value = next((item.value for item in status.values if item.key == key), "not loaded")
        self._heard[what] = (value, now_ns())

    def _said_lately(self, what: str, time_ns: int) -> str | None:
        value, heard_ns = self._heard.get(what, ("", 0))
        return value if heard_ns and time_ns - heard_ns < HEARSAY_NS else None

    def _controllers(self) -> int:
        found = self._node.get_subscriptions_info_by_topic(self._topic)
        return sum(info.node_name == self._controller for info in found)

    def _emergency_stops(self) -> int:
        """Who could stop the robot: not the watchdog, which only repeats to a new robot_node what it has heard."""
        namespace = self._node.get_namespace()
        return sum(
            info.node_name != UNKNOWN_NODE and (info.node_namespace, info.node_name) != (namespace, WATCHDOG)
            for info in self._node.get_publishers_info_by_topic("emergency_stop")
        )

    def _others(self) -> tuple[str, ...]:
        """Who else publishes commands, and a second one of those who may.

        Publishers are discovered a little before their names: a nameless one counts when it stays so.
        """
        expected = [*COMMANDERS]
        found = []
        time_ns = now_ns()
        nameless: dict[bytes, int] = {}
        for info in self._node.get_publishers_info_by_topic(self._topic):
            if info.node_name == UNKNOWN_NODE:
                key = bytes(info.endpoint_gid)
                nameless[key] = self._nameless.get(key, time_ns)
                if time_ns - nameless[key] < NAMING_NS:
                    continue
            if info.node_namespace == self._node.get_namespace() and info.node_name in expected:
                expected.remove(info.node_name)
            else:
                found.append(_full_name(info))
        self._nameless = nameless
        return tuple(sorted(found))


def _full_name(info: TopicEndpointInfo) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
