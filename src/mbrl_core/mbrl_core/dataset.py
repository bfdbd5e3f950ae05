# SPDX-License-Identifier: Apache-2.0
"""Transitions: pairing of time steps, validated datasets, and the replay buffer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_core.messages import StepType, TimeStep
from mbrl_core.specs import Array


@dataclass(frozen=True)
class Transitions:
    """A validated set of transitions.

    state, next_state [n, state_size]; action [n, action_size]; episode, step [n] of the state. A set with other
    shapes or non-finite numbers cannot be made: ValueError.
    """

    state: Array
    action: Array
    next_state: Array
    episode: np.ndarray
    step: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.state)
        if self.state.ndim != 2 or self.next_state.shape != self.state.shape:
            raise ValueError(f"transitions: states {self.state.shape} and next states {self.next_state.shape} must be"
                             " two equal [n, state_size] arrays")  # fmt: skip
        if self.action.ndim != 2 or len(self.action) != count:
            raise ValueError(f"transitions: actions {self.action.shape}, expected [{count}, action_size]")
        for name in ("episode", "step"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"transitions: {name} {getattr(self, name).shape}, expected [{count}]")
        for name in ("state", "action", "next_state"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"transitions: {name} has non-finite numbers")

    def __len__(self) -> int:
        return len(self.state)

    @staticmethod
    def joined(parts: Sequence["Transitions"]) -> "Transitions":
        """One or more sets, one after the other; episodes keep their numbers. Raises ValueError on none, and on sizes
        that differ.
        """
        names = ("state", "action", "next_state", "episode", "step")
        return Transitions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def select(self, index: np.ndarray) -> "Transitions":
        """The transitions at `index` (integers or booleans)."""
        return Transitions(
            self.state[index], self.action[index], self.next_state[index], self.episode[index], self.step[index]
        )


@dataclass(frozen=True)
class Transition:
    """One transition: state, next_state [state_size], action [action_size]."""

    state: Array
    action: Array
    next_state: Array
    episode: int
    step: int


def follows(previous: TimeStep | None, time_step: TimeStep) -> bool:
    """Whether a time step is the next of the same episode: no message between the two is missing."""
    return (
        previous is not None
        and time_step.step_type != StepType.FIRST
        and previous.step_type != StepType.LAST
        and (time_step.episode, time_step.step) == (previous.episode, previous.step + 1)
    )


class TransitionAssembler:
    """Turns a stream of time steps into transitions.

    Two steps make a transition only when they follow each other within one episode and the action between them
    was executed as published; a lost message costs one transition and can never pair the wrong action.
    """

    def __init__(self) -> None:
        self._previous: TimeStep | None = None

    def add(self, time_step: TimeStep) -> Transition | None:
        """Takes the next time step, returns the transition that it completes."""
        previous, self._previous = self._previous, time_step
        if (
            previous is None
            or not follows(previous, time_step)
            or not time_step.action_valid
            or not np.isfinite(time_step.action).all()
        ):
            return None
        return Transition(previous.state, time_step.action, time_step.state, previous.episode, previous.step)


class ReplayBuffer:
    """Transitions in order of arrival, bounded; the oldest give way to new ones.

    Storage grows by doubling, so a short run costs little memory.
    """

    def __init__(self, state_size: int, action_size: int, capacity: int = 100_000) -> None:
        if capacity < 1:
            raise ValueError(f"replay buffer capacity: got {capacity}, expected at least 1")
        self.state_size = state_size
        self.action_size = action_size
        self.capacity = capacity
        self._rows: Array = np.zeros((min(1024, capacity), 2 * state_size + action_size))
        self._keys: NDArray[np.int64] = np.zeros((len(self._rows), 2), dtype=np.int64)
        self._next = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, transition: Transition) -> None:
        """Appends one transition. Raises ValueError on a wrong shape or a non-finite number."""
        row = np.concatenate([transition.state, transition.action, transition.next_state])
        if row.shape != self._rows.shape[1:] or not np.isfinite(row).all():
            raise ValueError(
                f"replay buffer: got a row of {row.shape} numbers, expected {self._rows.shape[1:]} finite ones"
            )
        if self._next == len(self._rows) and len(self._rows) < self.capacity:
            size = min(2 * len(self._rows), self.capacity)
            self._rows = np.concatenate([self._rows, np.zeros((size - len(self._rows), self._rows.shape[1]))])
            self._keys = np.concatenate([self._keys, np.zeros((size - len(self._keys), 2), dtype=np.int64)])
        position = self._next % self.capacity
        self._rows[position] = row
        self._keys[position] = transition.episode, transition.step
        self._next = position + 1
        self._count = min(self._count + 1, self.capacity)

    def extend(self, transitions: Transitions) -> None:
        """Appends a whole set."""
        for index in range(len(transitions)):
            self.add(
                Transition(
                    transitions.state[index], transitions.action[index], transitions.next_state[index],
                    int(transitions.episode[index]), int(transitions.step[index]),
                )
            )  # fmt: skip

    def transitions(self) -> Transitions:
        """A copy of everything, oldest first."""
        order = np.arange(self._count)
        if self._count == self.capacity:
            order = (order + self._next) % self.capacity
        rows, keys = self._rows[order], self._keys[order]
        action_end = self.state_size + self.action_size
        return Transitions(
            rows[:, : self.state_size], rows[:, self.state_size : action_end], rows[:, action_end:],
            keys[:, 0].copy(), keys[:, 1].copy(),
        )  # fmt: skip
