# SPDX-License-Identifier: Apache-2.0
"""Records everything that is needed to re-create a run as rosbag2."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import (
    ControllerState,
    ExperimentStatus,
    LearnerStatus,
    Model,
    Plan,
    Policy,
    RobotSpec,
    Task,
    TimeStep,
)
from mbrl_policy.bag_writer import BagWriter
from mbrl_ros import parameters, process, qos
from mbrl_ros.health import Health
from mbrl_ros.lifecycle import ManagedNode
from mbrl_ros.steady import steady_timer

FLUSH_PERIOD = 0.2
# Deeper than the publishers' own: a moment of a slow disk costs nothing.
DEEP_JOINT_STATES = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
DEEP_LATCHED = QoSProfile(
    depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


@dataclass(frozen=True)
class RecorderConfig:
    """Parameters of the recorder."""

    robot_file: str = parameter("", "Path of the robot file; names the command topic")
    run_directory: str = parameter("", "Folder of the run; the bag is `bag` in it, or `bag_1` ... when that exists")


class RecorderNode(ManagedNode):
    """Writes raw messages as they come. A full disk ends the recording, never the node."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self._bag: BagWriter | None = None  # first: a node that is refused its configuration is destroyed as well
        self._config = parameters.declare(self, RecorderConfig)
        parameters.finish(self)
        if not self._config.run_directory:
            raise ConfigurationError("parameter 'run_directory': got '', expected the folder of the run")
        command_topic = load_robot(self._config.robot_file).command_topic
        self._topics: list[tuple[str, type[Any], QoSProfile]] = [
            ("time_step", TimeStep, qos.TIME_STEP_RECORD),
            ("plan", Plan, qos.STATUS),
            ("task", Task, DEEP_LATCHED),
            ("robot_spec", RobotSpec, DEEP_LATCHED),
            ("model", Model, DEEP_LATCHED),
            ("policy", Policy, DEEP_LATCHED),
            ("controller_state", ControllerState, DEEP_LATCHED),
            ("learner_status", LearnerStatus, qos.STATUS),
            ("experiment_status", ExperimentStatus, DEEP_LATCHED),
            ("emergency_stop", Bool, DEEP_LATCHED),
            ("joint_states", JointState, DEEP_JOINT_STATES),
            (command_topic, Float64MultiArray, qos.STATUS),
            ("/diagnostics", DiagnosticArray, qos.STATUS),
            ("/rosout", Log, qos.STATUS),
        ]
        self._health = Health(self)
        self._listening = False
        self._offered = 0
        self._recorded_before = 0
        self._connections: list[Connection] = []
        steady_timer(self, FLUSH_PERIOD, self._flush)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Opens a new bag."""
        try:
            path = _free_name(Path(self._config.run_directory))
            self._bag = BagWriter(path)
            self._connections = [
                self._bag.add_topic(self.resolve_topic_name(topic), _type_name(message_class), _bag_qos(profile))
                for topic, message_class, profile in self._topics
            ]
        except OSError as error:
            self._report_failure(error)
            return TransitionCallbackReturn.FAILURE
        finally:
            self._listen()
        self.get_logger().info(f"recording into {path}")
        self._health.ok("recording")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finishes the bag."""
        self._finish()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finishes the bag."""
        self._finish()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Finishes the bag."""
        self._finish()
        super().destroy_node()

    def _listen(self) -> None:
        """Subscribes, once the bag is open or has been reported as impossible: whom others find listening is ready."""
        if not self._listening:
            self._listening = True
            for index, (topic, message_class, profile) in enumerate(self._topics):
                self.create_subscription(message_class, topic, partial(self._on_message, index), profile, raw=True)

    def _on_message(self, index: int, content: bytes) -> None:
        self._offered += 1
        if self._bag is None:
            return
        try:
            self._bag.write(self._connections[index], time.time_ns(), content)
        except OSError as error:
            self._stop_recording(error)

    def _flush(self) -> None:
        if self._bag is not None:
            try:
                self._bag.flush()
            except OSError as error:
                self._stop_recording(error)
        self._health.set("offered", self._offered)
        self._health.set("recorded", self._recorded_before + (self._bag.recorded if self._bag else 0))

    def _stop_recording(self, error: OSError) -> None:
        self._report_failure(error)
        self._finish()

    def _finish(self) -> None:
        if self._bag is None:
            return
        bag, self._bag = self._bag, None
        try:
            bag.close()
        except OSError as error:
            self._health.error(f"{bag.path} could not be finished: {error}; `recover` in mbrl_policy.bags finishes it")
        self._recorded_before += bag.recorded
        self.get_logger().info(f"{bag.path}: {bag.recorded} of {self._offered} messages recorded")

    def _report_failure(self, error: OSError) -> None:
        where = self._config.run_directory
        self._health.refuse("disk", f"recording in {where}: {error.strerror}; expected room for the bag")
        self._health.error(f"not recording: {error.strerror} in {where}; what was recorded before stays readable")


def _free_name(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    names = ["bag"] + [f"bag_{number}" for number in range(1, 10_000)]
    return next(directory / name for name in names if not (directory / name).exists())


def _type_name(message_class: type[Any]) -> str:
    package, _, _ = message_class.__module__.partition(".")
    return f"{package}/msg/{message_class.__name__}"


def _bag_qos(profile: QoSProfile) -> Qos:
    latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    reliable = profile.reliability == ReliabilityPolicy.RELIABLE
    unset = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=profile.depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=unset,
        lifespan=unset,
        liveliness=QosLiveliness.SYSTEM_DEFAULT,
        liveliness_lease_duration=unset,
        avoid_ros_namespace_conventions=False,
    )


def main() -> int:
    """Runs the node; returns the exit status."""
    return process.run(RecorderNode)
