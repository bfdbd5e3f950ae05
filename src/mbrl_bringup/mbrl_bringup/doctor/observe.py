# SPDX-License-Identifier: Apache-2.0
"""Looks at a running system for a while. It calls no service and publishes nothing: a robot is not disturbed."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from mbrl_msgs.msg import RobotSpec, TimeStep
from mbrl_ros import qos

from .graph import Endpoint, Snapshot, Status

if TYPE_CHECKING:
    from rclpy.node import Node

DISCOVERY = 1.0  # s, after which nodes of this machine have found each other
HIDDEN = ("/parameter_events", "/rosout")


def observe(node: Node, seconds: float) -> Snapshot:
    """What `node` sees in so many seconds, after those of discovery; itself left out."""
    counts: Counter[str] = Counter()
    statuses: dict[str, Status] = {}
    periods: dict[str, float] = {}
    running: dict[str, bool] = {}

    def on_diagnostics(message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            level = int.from_bytes(status.level, "little")
            statuses[status.name] = Status(status.name, level, status.message, values)

    def follow(topic: str) -> None:
        def on_time_step(message: TimeStep) -> None:
            counts[topic] += 1
            # An episode that ended or began in between has gaps that are nobody's fault.
            running[topic] = running.get(topic, True) and message.step_type == TimeStep.MID

        def on_spec(message: RobotSpec) -> None:
            periods[topic] = message.period

        node.create_subscription(TimeStep, topic, on_time_step, qos.TIME_STEP_RECORD)
        node.create_subscription(RobotSpec, topic.rsplit("/", 1)[0] + "/robot_spec", on_spec, qos.LATCHED)

    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, qos.STATUS)
    _spin(node, DISCOVERY)
    for topic, kinds in node.get_topic_names_and_types():
        if "mbrl_msgs/msg/TimeStep" in kinds:
            follow(topic)
    _spin(node, DISCOVERY)
    counts.clear()
    running.clear()
    begin = time.monotonic()
    _spin(node, seconds)
    passed = time.monotonic() - begin
    own = node.get_fully_qualified_name()
    names = [f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces()]
    topics = [topic for topic, _ in node.get_topic_names_and_types() if topic not in HIDDEN]
    return Snapshot(
        passed,
        # Nodes whose name begins with an underscore are of tools.
        [name for name in names if name != own and not name.rsplit("/", 1)[-1].startswith("_")],
        [each for topic in topics for each in _endpoints(node.get_publishers_info_by_topic(topic), topic, own)],
        [each for topic in topics for each in _endpoints(node.get_subscriptions_info_by_topic(topic), topic, own)],
        list(statuses.values()), dict(counts), periods, [topic for topic, mid in running.items() if mid],
    )  # fmt: skip


def _spin(node: Node, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0.0:
        rclpy.spin_once(node, timeout_sec=left)


def _endpoints(infos: Any, topic: str, own: str) -> list[Endpoint]:
    result = []
    for info in infos:
        name = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        profile = info.qos_profile
        if name != own:
            result.append(
                Endpoint(
                    name, topic, info.topic_type, profile.reliability == ReliabilityPolicy.RELIABLE,
                    profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
                )
            )  # fmt: skip
    return result
