# SPDX-License-Identifier: Apache-2.0
"""Bags of this suite as data: time steps, transitions, episodes with their labels, and recovery of torn ones."""

import logging
from collections.abc import Iterable
from pathlib import Path

from mbrl_core.demonstrations import Demonstration, Outcome
from mbrl_policy.data.episodes import Episode, Label, Recording, demonstrations_of, read_recording, select
from mbrl_policy.data.recovery import recover
from mbrl_ros.bag_reading import (
    METADATA,
    BagError,
    check_same_transitions,
    read_messages,
    read_spec,
    read_time_steps,
    read_transitions,
)

__all__ = [
    "METADATA",
    "BagError",
    "Demonstration",
    "Episode",
    "Label",
    "Outcome",
    "Recording",
    "check_same_transitions",
    "read_episodes",
    "read_messages",
    "read_recording",
    "read_spec",
    "read_time_steps",
    "read_transitions",
    "recover",
]


def read_episodes(
    paths: str | Path | Iterable[str | Path],
    outcome: Outcome | None = None,
    include_discarded: bool = False,
    task: str | None = None,
) -> list[Demonstration]:
    """Demonstrations in one or more bags of one robot.

    A gap in an episode (a lost message, an action that changed within its interval, a number that is not finite)
    splits it into several demonstrations of the same `episode`. Episodes of several bags that have the same number are
    told apart by new ones. The newest label of an episode counts; `outcome` and `task` let only those pass that have
    them. What is passed over is logged as a warning.

    Raises BagError when a bag cannot be read, when two are of different robots, and when no episode is left.
    """
    recording = read_recording(paths)
    remarks = list(recording.remarks)
    try:
        return demonstrations_of(recording, select(recording.episodes, outcome, include_discarded, task), remarks)
    finally:
        for remark in remarks:
            logging.getLogger(__name__).warning(remark)
