# SPDX-License-Identifier: Apache-2.0
"""Errors made on new transitions before anything was trained on them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.dataset import Transition, Transitions
from mbrl_core.specs import Array
from mbrl_dynamics.encoding import Encoder
from mbrl_dynamics.model import DynamicsModel

FROZEN = -1  # number of a transition that is never trained on


@dataclass(frozen=True)
class Entry:
    """A transition, its number among those to be trained on, and the errors [members, state_size] of the model then."""

    transition: Transition
    number: int
    error: Array


class PrequentialRecord:
    """The newest transitions with the errors that the model in force made when they came (Dawid 1984, "The prequential
    approach").

    Errors are kept as predicted minus observed next state, [members, state_size] in SI units; as figures they are mean
    squares in units of `scale` [state_size].
    """

    def __init__(self, encoder: Encoder, window: int) -> None:
        self._encoder = encoder
        self._window = window
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, transition: Transition, number: int, model: DynamicsModel) -> None:
        """Records what `model` makes of a transition, the `number`th to be trained on later, or FROZEN."""
        error = self.differences(model, _as_set([transition]))[:, 0]
        self._entries.append(Entry(transition, number, error))
        del self._entries[: -self._window]

    def error(self, scale: Array) -> float:
        """Error of the mean over members, as published; NaN without any transition."""
        if not self._entries:
            return float("nan")
        means = np.array([entry.error for entry in self._entries]).mean(axis=1) / scale
        return float(np.mean(means * means))

    def compare(self, model: DynamicsModel, unseen: Array, numbers: range, scale: Array) -> tuple[float, float]:
        """Error of a model, and the one on record, over the members and transitions that the model was not trained on.

        The model was trained on the transitions `numbers`, but for those where `unseen` [members, len(numbers)] is
        true; later ones are unseen by all of its members. NaN and NaN when nothing is unseen.
        """
        entries = [entry for entry in self._entries if entry.number >= numbers.start]
        honest = np.ones((model.members, len(entries)), dtype=bool)
        for column, entry in enumerate(entries):
            if entry.number in numbers:
                honest[:, column] = unseen[:, entry.number - numbers.start]
        if not honest.any():
            return float("nan"), float("nan")
        new = self.differences(model, _as_set([entry.transition for entry in entries])) / scale
        recorded = np.array([entry.error for entry in entries]).swapaxes(0, 1) / scale
        new_error, recorded_error = (np.mean(values * values, axis=-1)[honest].mean() for values in (new, recorded))
        return float(np.nan_to_num(new_error, nan=np.inf)), float(recorded_error)

    def differences(self, model: DynamicsModel, transitions: Transitions) -> Array:
        """Predicted minus observed next state [members, n, state_size], the shorter way round for angles."""
        with torch.no_grad():
            state = torch.as_tensor(transitions.state, dtype=torch.float32)
            action = torch.as_tensor(transitions.action, dtype=torch.float32)
            mean = model.predict(state, action).mean.numpy()
        return self._encoder.difference(mean, transitions.next_state)

    def arrays(self) -> dict[str, np.ndarray]:
        """For a checkpoint; nothing when nothing is recorded."""
        if not self._entries:
            return {}
        return {
            **vars(_as_set([entry.transition for entry in self._entries])),
            "number": np.array([entry.number for entry in self._entries]),
            "error": np.array([entry.error for entry in self._entries]),
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restores `arrays`."""
        if not arrays:
            return
        names = ("state", "action", "next_state", "episode", "step", "number", "error")
        columns = [arrays[name] for name in names]
        self._entries = [
            Entry(Transition(state, action, next_state, int(episode), int(step)), int(number), error)
            for state, action, next_state, episode, step, number, error in zip(*columns, strict=True)
        ]


def _as_set(transitions: list[Transition]) -> Transitions:
    return Transitions(
        np.array([item.state for item in transitions]),
        np.array([item.action for item in transitions]),
        np.array([item.next_state for item in transitions]),
        np.array([item.episode for item in transitions]),
        np.array([item.step for item in transitions]),
    )
