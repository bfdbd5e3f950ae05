# SPDX-License-Identifier: Apache-2.0
"""What a recorder listens to: everything that is needed to re-create a run, and what the user names beside it."""

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, Float64MultiArray, String

from mbrl_core.config import ConfigurationError
from mbrl_msgs.msg import (
    ControllerState,
    EpisodeLabel,
    ExperimentStatus,
    LearnerStatus,
    Model,
    Plan,
    Policy,
    RobotSpec,
    Task,
    TimeStep,
)
from mbrl_policy.intentions import INTENDED_PLAN
from mbrl_ros import qos

# Deeper than the publishers' own: a moment of a slow disk costs nothing.
DEPTH = 1000
SENSORS = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
# A second of a camera; a thousand pictures would be a gigabyte.
PICTURE_DEPTH = 30
LATCHED = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PICTURE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/PointCloud2")
LABELS = "episode_label"
ENTRY = re.compile(r"(?P<name>[\w/~]+)\s+(?P<package>[a-z]\w*)/msg/(?P<type>[A-Z]\w*)")


@dataclass(frozen=True)
class RecordedTopic:
    """A topic, relative to the node's namespace, its type, and with which quality of service it is listened to."""

    name: str
    message_class: type[Any]
    profile: QoSProfile

    @property
    def type_name(self) -> str:
        """For instance mbrl_msgs/msg/TimeStep."""
        package, _, _ = self.message_class.__module__.partition(".")
        return f"{package}/msg/{self.message_class.__name__}"

    @property
    def latched(self) -> bool:
        """Whether what was said last holds for whoever comes later."""
        return bool(self.profile.durability == DurabilityPolicy.TRANSIENT_LOCAL)

    def bag_qos(self) -> Qos:
        """The profile as bags hold it."""
        reliable = self.profile.reliability == ReliabilityPolicy.RELIABLE
        unset = QosTime(0, 0)
        return Qos(
            history=QosHistory.KEEP_LAST,
            depth=self.profile.depth,
            reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
            durability=QosDurability.TRANSIENT_LOCAL if self.latched else QosDurability.VOLATILE,
            deadline=unset,
            lifespan=unset,
            liveliness=QosLiveliness.SYSTEM_DEFAULT,
            liveliness_lease_duration=unset,
            avoid_ros_namespace_conventions=False,
        )


def topics_of_a_run(command_topic: str) -> list[RecordedTopic]:
    """The suite's own topics, with the robot's command topic."""
    return [
        RecordedTopic("time_step", TimeStep, qos.TIME_STEP_RECORD),
        RecordedTopic("plan", Plan, qos.STATUS),
        RecordedTopic(INTENDED_PLAN, Plan, qos.STATUS),
        RecordedTopic("task", Task, LATCHED),
        RecordedTopic("robot_spec", RobotSpec, LATCHED),
        RecordedTopic("model", Model, LATCHED),
        RecordedTopic("policy", Policy, LATCHED),
        RecordedTopic("learned_reward", Task, LATCHED),
        RecordedTopic("planner_settings", String, LATCHED),
        RecordedTopic("controller_state", ControllerState, LATCHED),
        RecordedTopic("learner_status", LearnerStatus, qos.STATUS),
        RecordedTopic("experiment_status", ExperimentStatus, LATCHED),
        RecordedTopic("emergency_stop", Bool, LATCHED),
        RecordedTopic(LABELS, EpisodeLabel, qos.STATUS),
        RecordedTopic("joy", Joy, SENSORS),
        RecordedTopic("joint_states", JointState, SENSORS),
        RecordedTopic(command_topic, Float64MultiArray, qos.STATUS),
        RecordedTopic("/diagnostics", DiagnosticArray, qos.STATUS),
        RecordedTopic("/rosout", Log, qos.STATUS),
    ]


def as_offered(topic: RecordedTopic, offered: Sequence[QoSProfile]) -> RecordedTopic:
    """The topic with what all of its publishers, at least one, offer: as much as can be had from every one."""
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return replace(
        topic,
        profile=QoSProfile(
            depth=PICTURE_DEPTH if topic.type_name in PICTURE_TYPES else DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        ),
    )


def extra_topics(entries: Sequence[str]) -> list[RecordedTopic]:
    """Topics that the user names as `NAME TYPE`, for instance `camera/compressed sensor_msgs/msg/CompressedImage`.

    How they are listened to is known once they have publishers (`as_offered`). Raises ConfigurationError that says
    which entry and what was expected.
    """
    found = []
    for entry in filter(None, (item.strip() for item in entries)):
        match = ENTRY.fullmatch(entry)
        message_class = None if match is None else _message_class(match["package"], match["type"])
        if match is None or message_class is None:
            expected = "'NAME PACKAGE/msg/TYPE' of a package that is there"
            raise ConfigurationError(f"parameter 'topics': got {entry!r}, expected {expected}")
        found.append(RecordedTopic(match["name"], message_class, SENSORS))
    return found


def _message_class(package: str, name: str) -> type[Any] | None:
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None
