# SPDX-License-Identifier: Apache-2.0
"""What is in a bag: topics, returns, statistics of the variables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbrl_core.demonstrations import Demonstration
from mbrl_core.specs import Array, RobotSpec
from mbrl_policy.data.copying import read_raw
from mbrl_policy.data.episodes import Episode
from mbrl_policy.data.fields import MessageFields
from mbrl_ros.bag_reading import open_bag

STATUS = "mbrl_msgs/msg/ExperimentStatus"


@dataclass(frozen=True)
class Topic:
    """One recorded topic."""

    name: str
    message_type: str
    messages: int


@dataclass(frozen=True)
class Statistics:
    """Of one variable over the steps of a data set, in `unit`; `change` is the root mean square change in a step."""

    name: str
    unit: str
    mean: float
    std: float
    minimum: float
    maximum: float
    change: float


def topics(path: str | Path) -> tuple[list[Topic], float]:
    """The topics of a bag and how long it is, seconds. Raises BagError."""
    with open_bag(path) as reader:
        counts: dict[tuple[str, str], int] = {}
        for item in reader.connections:
            key = (item.topic, item.msgtype)
            counts[key] = counts.get(key, 0) + item.msgcount
        length = 1e-9 * reader.duration if reader.message_count else 0.0
    return [Topic(name, kind, count) for (name, kind), count in sorted(counts.items())], length


def returns(path: str | Path) -> dict[int, float]:
    """The last return that the experiment reported of each episode, by robot_node's number. Raises BagError."""
    found: dict[int, float] = {}
    for typestore, connection, _, content in read_raw(path):
        if connection.msgtype == STATUS:
            values = MessageFields(content, STATUS, typestore, ("episode", "trial_return")).values
            if values["episode"] > 0 and np.isfinite(values["trial_return"]):
                found[values["episode"]] = float(values["trial_return"])
    return found


def statistics(demonstrations: Sequence[Demonstration], spec: RobotSpec) -> list[Statistics]:
    """Of each state and action variable. Angles are taken as they are."""
    states = np.concatenate([item.states for item in demonstrations])
    actions = np.concatenate([item.actions for item in demonstrations])
    state_changes = np.concatenate([np.diff(item.states, axis=0) for item in demonstrations])
    action_changes = np.concatenate([np.diff(item.actions, axis=0) for item in demonstrations])
    units = [f"{scale:g} {unit}" for scale, unit in zip(spec.action.scale, spec.action.units, strict=True)]
    return [
        *_columns(spec.state.names, spec.state.units, states, state_changes),
        *_columns([f"{name} ({kind})" for name, kind in zip(spec.action.names, spec.action.interfaces, strict=True)],
                  units, actions, action_changes),
    ]  # fmt: skip


def _columns(names: Sequence[str], units: Sequence[str], values: Array, changes: Array) -> list[Statistics]:
    return [
        Statistics(
            name, unit, float(column.mean()), float(column.std()), float(column.min()), float(column.max()),
            float(np.sqrt(np.mean(change**2))) if len(change) else 0.0,
        )
        for name, unit, column, change in zip(names, units, values.T, changes.T, strict=True)
    ]  # fmt: skip


def seconds(episode: Episode, spec: RobotSpec) -> float:
    """Length of an episode by its steps."""
    return (episode.steps[-1].step - episode.steps[0].step) * spec.period if episode.steps else 0.0
