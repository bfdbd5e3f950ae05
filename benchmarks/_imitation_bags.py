# SPDX-License-Identifier: Apache-2.0
"""Demonstrations recorded as a recorder would, and read back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task
from mbrl_policy.bag_writer import BagWriter
from mbrl_policy.training import Rollout
from mbrl_policy.training_data import read_training_data
from mbrl_ros.conversions import spec_to_message, time_step_to_message

TEACHER = "planner"
NEVER = QosTime(2147483647, 4294967295)
QOS = Qos(
    QosHistory.KEEP_LAST, 1000, QosReliability.RELIABLE, QosDurability.VOLATILE, NEVER, NEVER,
    QosLiveliness.AUTOMATIC, NEVER, False,
)  # fmt: skip


def recorded(folder: Path, rollouts: Sequence[Rollout], spec: RobotSpec, task: Task) -> list[Rollout]:
    """Writes one bag of all rollouts, an episode each; returns the demonstrations that a trainer finds in it."""
    writer = BagWriter(folder)
    try:
        specs = writer.add_topic("/robot_spec", "mbrl_msgs/msg/RobotSpec", QOS)
        time_steps = writer.add_topic("/time_step", "mbrl_msgs/msg/TimeStep", QOS)
        writer.write(specs, 0, serialize_message(spec_to_message(spec, Time())))
        period, now = round(1e9 * spec.period), 0
        for episode, rollout in enumerate(rollouts, start=1):
            for time_step in steps_of(rollout, episode):
                now += period
                message = time_step_to_message(time_step, spec.interface_hash, Time())
                writer.write(time_steps, now, serialize_message(message))
    finally:
        writer.close()
    return read_training_data(folder, spec).demonstrations(task, (TEACHER,))


def steps_of(rollout: Rollout, episode: int) -> list[TimeStep]:
    """The time steps of a rollout."""
    end = EndReason.TERMINATED if rollout.terminated else EndReason.TIME_LIMIT
    last, width = len(rollout), rollout.actions.shape[1]
    return [
        TimeStep(
            episode,
            step,
            StepType.FIRST if step == 0 else StepType.LAST if step == last else StepType.MID,
            rollout.states[step],
            rollout.actions[step - 1] if step else np.full(width, np.nan),
            action_valid=step > 0,
            end_reason=end if step == last else EndReason.NOT_ENDED,
            controller=TEACHER if step else "",
            committed_actions=np.zeros((0, width)),
        )
        for step in range(last + 1)
    ]
