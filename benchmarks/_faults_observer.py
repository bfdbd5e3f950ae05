# SPDX-License-Identifier: Apache-2.0
"""An independent observer of a robot: writes what it hears on its topics to standard output, a JSON array a line.

It wakes up every few milliseconds and takes all that waits in deep queues: what counts are the times at which the
publishers' middleware sent the messages, which do not depend on when they are taken. Numbers of the publishers' own
count show whether any message was lost on the way to here.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_msgs.msg import ControllerState, ExperimentStatus, Plan, TimeStep

INTERVAL = 0.005  # s between two looks
PRIORITY = 2  # SCHED_RR, above the nodes that tick: it must not be what it observes that holds it up
DEPTH = 5000

Content = Callable[[Any], list[Any]]


def profile(reliable: bool = True, latched: bool = False) -> QoSProfile:
    """Deep: nothing is lost while this process waits."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _time_step(message: TimeStep) -> list[Any]:
    return [
        message.episode, message.step, message.step_type, message.end_reason, message.controller, message.fallback,
        message.row_age, message.command_time_ns,
    ]  # fmt: skip


def _diagnostics(message: DiagnosticArray) -> list[Any]:
    return [
        [status.name.strip("/"), int.from_bytes(status.level, "little"), status.message,
         {item.key: item.value for item in status.values}]
        for status in message.status
    ]  # fmt: skip


def _state(message: ControllerState) -> list[Any]:
    return [message.selected, message.active, message.reason, message.emergency_stop]


# Letter: message type, topic ({commands} is the robot's command topic), profile, what of it is told.
TOPICS: dict[str, tuple[type[Any], str, QoSProfile, Content]] = {
    "c": (Float64MultiArray, "{commands}", profile(), lambda message: list(message.data)),
    "b": (Float64MultiArray, "backend/{commands}", profile(), lambda message: list(message.data)),
    "j": (JointState, "backend/joint_states", profile(reliable=False), lambda message: list(message.effort)),
    "t": (TimeStep, "time_step", profile(), _time_step),
    "p": (Plan, "plan", profile(), lambda message: [message.controller, message.producer, message.episode]),
    "s": (ControllerState, "controller_state", profile(latched=True), _state),
    "e": (
        ExperimentStatus, "experiment_status", profile(latched=True),
        lambda message: [message.phase, message.trial, message.episode, message.message, len(message.returns)],
    ),
    "d": (DiagnosticArray, "/diagnostics", profile(), _diagnostics),
}  # fmt: skip


def take(subscription: Subscription[Any], kind: str, content: Content, lines: list[str]) -> None:
    """Adds a line for every message that waits: letter, publisher, its number, when it was sent (ns), content."""
    while True:
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, False)
        if taken is None:
            return
        message, information = taken
        gid = information["publisher_gid"]["data"].hex()
        number, sent_ns = information["publication_sequence_number"], information["source_timestamp"]
        lines.append(json.dumps([kind, gid, number, sent_ns, *content(message)], allow_nan=True))


def main() -> int:
    """Observes until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", required=True, help="the robot's command topic")
    options = parser.parse_args()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("_observer")
    subscriptions = []
    for letter, (kind, topic, qos, content) in TOPICS.items():
        made = node.create_subscription(kind, topic.format(commands=options.commands), lambda message: None, qos)
        subscriptions.append((made, letter, content))
    precedence = True
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(PRIORITY))
    except OSError:
        precedence = False
    os.set_blocking(sys.stdin.fileno(), False)
    print(json.dumps(["i", precedence, time.time_ns() - time.monotonic_ns()]), flush=True)
    due = time.monotonic()
    while True:
        due = max(due + INTERVAL, time.monotonic())
        time.sleep(max(due - time.monotonic(), 0.0))
        lines: list[str] = []
        for subscription, letter, content in subscriptions:
            take(subscription, letter, content, lines)
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
        try:
            if sys.stdin.buffer.raw.read(1) == b"":
                break
        except BlockingIOError:
            pass
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
