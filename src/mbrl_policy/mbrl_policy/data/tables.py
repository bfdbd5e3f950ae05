# SPDX-License-Identifier: Apache-2.0
"""Episodes as tables of transitions with times, controllers and labels, and back into a bag."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from mbrl_core.dataset import Transitions
from mbrl_core.demonstrations import Outcome
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_core.transition_file import TransitionFile
from mbrl_msgs.msg import EpisodeLabel
from mbrl_policy.data.copying import new_bag
from mbrl_policy.data.episodes import Episode
from mbrl_ros.bag_reading import BagError
from mbrl_ros.conversions import spec_to_message, time_step_to_message

# Columns beside the transitions: one entry a transition.
TIMES = ("stamp_ns", "next_stamp_ns", "received_ns", "next_received_ns")
# The table of labels: one entry an episode.
LABELS = ("label_episode", "label_outcome", "label_discarded", "label_task", "label_note")
SECOND = 1_000_000_000


def to_table(spec: RobotSpec, episodes: Sequence[Episode]) -> TransitionFile:
    """Transitions of the episodes; `end_reason` is that of the step at which a transition ends (0 = goes on).

    Raises BagError where there is none.
    """
    parts = [(item, part) for item in episodes for part in item.parts()]
    if not parts:
        raise BagError(f"expected episodes with transitions, got none in {len(episodes)} episodes")
    columns: dict[str, list[Any]] = {name: [] for name in (*TIMES, "end_reason", "controller")}
    for episode, part in parts:
        places = {step.step: index for index, step in enumerate(episode.steps)}
        for number in range(part.first_step, part.first_step + len(part)):
            before, after = places[number], places[number + 1]
            for name, place in zip(TIMES, (before, after, before, after), strict=True):
                source = episode.received_ns if "received" in name else episode.stamp_ns
                columns[name].append(source[place])
            columns["end_reason"].append(int(episode.steps[after].end_reason))
            columns["controller"].append(episode.steps[after].controller)
    extra = {name: np.array(values, dtype=np.int64) for name, values in columns.items() if name != "controller"}
    extra["controller"] = np.array(columns["controller"], dtype=np.str_)
    labels = [(item.number, item.label) for item in episodes]
    extra["label_episode"] = np.array([number for number, _ in labels], dtype=np.int64)
    extra["label_outcome"] = np.array([int(label.outcome) for _, label in labels], dtype=np.int64)
    extra["label_discarded"] = np.array([label.discarded for _, label in labels], dtype=np.bool_)
    extra["label_task"] = np.array([label.task for _, label in labels], dtype=np.str_)
    extra["label_note"] = np.array([label.note for _, label in labels], dtype=np.str_)
    return TransitionFile(spec, Transitions.joined([part.transitions() for _, part in parts]), extra)


def to_bag(content: TransitionFile, output: str | Path) -> None:
    """Writes a bag of the robot's description, time steps and labels with the times of the table.

    Committed actions, plans, models and whatever else a recording has are not in a table. Raises BagError on a table
    without times, and where `output` exists.
    """
    missing = [name for name in (*TIMES, "end_reason") if name not in content.extra]
    if missing:
        raise BagError(f"transitions without {', '.join(missing)}: expected them, a bag's messages have times")
    messages = sorted(_time_steps(content), key=lambda item: item[0])
    begin, end = messages[0][0], messages[-1][0]
    spec = spec_to_message(content.spec, _time(begin))
    messages = [(begin, "robot_spec", spec), *messages, *((end, "episode_label", item) for item in _labels(content))]
    with new_bag(output) as writer:
        connections = {
            "robot_spec": writer.add_topic("/robot_spec", "mbrl_msgs/msg/RobotSpec", LATCHED),
            "time_step": writer.add_topic("/time_step", "mbrl_msgs/msg/TimeStep", RELIABLE),
            "episode_label": writer.add_topic("/episode_label", "mbrl_msgs/msg/EpisodeLabel", LATCHED),
        }
        for time_ns, topic, message in messages:
            writer.write(connections[topic], time_ns, serialize_message(message))


def _time_steps(content: TransitionFile) -> list[tuple[int, str, Any]]:
    data, extra = content.transitions, content.extra
    found: list[tuple[int, str, Any]] = []
    previous: tuple[int, int] | None = None
    for index in range(len(data)):
        episode, step = int(data.episode[index]), int(data.step[index])
        if previous != (episode, step):
            # The step before is missing, or there is none: what was executed up to here is not known.
            kind = StepType.FIRST if step == 0 else StepType.MID
            unknown = np.full(content.spec.action.size, np.nan if step == 0 else 0.0)
            first = TimeStep(episode, step, kind, data.state[index], unknown, action_valid=False)
            found.append(_message(first, content.spec, int(extra["stamp_ns"][index]), int(extra["received_ns"][index])))
        end = EndReason(int(extra["end_reason"][index]))
        after = TimeStep(
            episode, step + 1, StepType.LAST if end else StepType.MID, data.next_state[index], data.action[index],
            end_reason=end, controller=str(extra["controller"][index]) if "controller" in extra else "",
        )  # fmt: skip
        times = int(extra["next_stamp_ns"][index]), int(extra["next_received_ns"][index])
        found.append(_message(after, content.spec, *times))
        previous = (episode, step + 1)
    return found


def _message(step: TimeStep, spec: RobotSpec, stamp_ns: int, received_ns: int) -> tuple[int, str, Any]:
    return received_ns, "time_step", time_step_to_message(step, spec.interface_hash, _time(stamp_ns))


def _labels(content: TransitionFile) -> list[EpisodeLabel]:
    columns = [content.extra.get(name, np.zeros(0)) for name in LABELS]
    labels = []
    for episode, outcome, discarded, task, note in zip(*columns, strict=True):
        if Outcome(int(outcome)) or discarded or task or note:
            label = EpisodeLabel(version=EpisodeLabel.VERSION, episode=int(episode), outcome=int(outcome))
            label.discarded, label.task, label.note = bool(discarded), str(task), str(note)
            labels.append(label)
    return labels


def _time(nanoseconds: int) -> Time:
    return Time(sec=nanoseconds // SECOND, nanosec=nanoseconds % SECOND)


def _quality(durability: QosDurability) -> Qos:
    unset = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST, 1000, QosReliability.RELIABLE, durability, unset, unset, QosLiveliness.SYSTEM_DEFAULT,
        unset, False,
    )  # fmt: skip


RELIABLE, LATCHED = _quality(QosDurability.VOLATILE), _quality(QosDurability.TRANSIENT_LOCAL)
