# SPDX-License-Identifier: Apache-2.0
"""Demonstrations: what somebody has shown a robot, as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mbrl_core.dataset import Transitions
from mbrl_core.specs import Array


class Outcome(IntEnum):
    """How an episode went, in a person's eyes; the values are those of mbrl_msgs/EpisodeLabel."""

    UNLABELLED = 0
    SUCCESS = 1
    FAILURE = 2


@dataclass(frozen=True)
class Demonstration:
    """T >= 1 steps without a gap.

    Attributes:
        states: [T + 1, state_size], SI units, angles as the robot gives them.
        actions: [T, action_size], as they were executed, normalised.
        episode: number in the recording that it is of.
        first_step: step of `states[0]` in its episode; more than 0 where steps before it are missing.
        outcome, task, note: the person's label.
        intended: [T, action_size], as they were meant before noise disturbed them, NaN where that was lost; None where
            what was executed is what was meant.

    Raises ValueError on shapes that do not fit and numbers that are not finite.
    """

    states: Array
    actions: Array
    episode: int = 0
    first_step: int = 0
    outcome: Outcome = Outcome.UNLABELLED
    task: str = ""
    note: str = ""
    intended: Array | None = None

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or 0 in self.actions.shape:
            raise ValueError(f"demonstration actions: got {self.actions.shape}, expected [T >= 1, action_size]")
        if self.states.ndim != 2 or len(self.states) != len(self.actions) + 1:
            expected = f"[{len(self.actions) + 1}, state_size]"
            raise ValueError(f"demonstration states: got {self.states.shape}, expected {expected}")
        for name in ("states", "actions"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"demonstration {name}: has numbers that are not finite")
        if self.intended is not None and self.intended.shape != self.actions.shape:
            raise ValueError(f"demonstration intended: got {self.intended.shape}, expected {self.actions.shape}")

    def __len__(self) -> int:
        return len(self.actions)

    def transitions(self) -> Transitions:
        """The same as transitions."""
        count = len(self)
        return Transitions(
            self.states[:-1],
            self.actions,
            self.states[1:],
            np.full(count, self.episode, dtype=np.int64),
            self.first_step + np.arange(count, dtype=np.int64),
        )


def check_demonstrations(demonstrations: Iterable[Demonstration], state_size: int, action_size: int) -> None:
    """Raises ValueError where there is none, and where one is of another robot."""
    sizes = [(item.states.shape[1], item.actions.shape[1]) for item in demonstrations]
    if not sizes:
        raise ValueError("demonstrations: got none, expected at least one")
    for index, size in enumerate(sizes):
        if size != (state_size, action_size):
            raise ValueError(
                f"demonstration {index}: {size[0]} state and {size[1]} action variables, expected {state_size} and"
                f" {action_size}"
            )
