# SPDX-License-Identifier: Apache-2.0
"""Transitions in a file of NumPy arrays (.npz), with the robot that they are of. No pickle.

state, next_state [n, state_size]; action [n, action_size]; episode, step [n]; `spec`, the robot as JSON text; and
whatever else the writer has: columns of one entry a transition, or tables of another length.
"""

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_core.dataset import Transitions
from mbrl_core.specs import ActionSpec, RobotSpec, SpecError, StateSpec

COLUMNS = ("state", "action", "next_state", "episode", "step")
SPEC = "spec"


class TransitionFileError(ValueError):
    """A file of transitions cannot be read. The text names the file, what is wrong and what was expected."""


@dataclass(frozen=True)
class TransitionFile:
    """What such a file holds; `extra` has the arrays beside the transitions."""

    spec: RobotSpec
    transitions: Transitions
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


def save_transitions(path: str | Path, content: TransitionFile) -> None:
    """Writes the file whole or not at all. Raises OSError."""
    path = Path(path)
    arrays: dict[str, Any] = {name: getattr(content.transitions, name) for name in COLUMNS}
    arrays |= {SPEC: np.array(spec_to_text(content.spec)), **content.extra}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial.npz")
    try:
        np.savez_compressed(partial, allow_pickle=False, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_transitions(path: str | Path, expected: RobotSpec | None = None) -> TransitionFile:
    """Reads a file. Raises TransitionFileError, also where it is of another robot than `expected`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        transitions = Transitions(**{name: arrays.pop(name) for name in COLUMNS})
        spec = spec_from_text(str(arrays.pop(SPEC)))
    except KeyError as error:
        raise TransitionFileError(f"{path}: expected an array {error.args[0]!r}, there is none") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise TransitionFileError(f"{path}: {error}; expected a .npz file of transitions") from None
    sizes = (transitions.state.shape[1], transitions.action.shape[1])
    if sizes != (spec.state.size, spec.action.size):
        raise TransitionFileError(
            f"{path}: {sizes[0]} state and {sizes[1]} action variables, but its robot {spec.name!r} has"
            f" {spec.state.size} and {spec.action.size}"
        )
    if expected is not None and spec.interface_hash != expected.interface_hash:
        raise TransitionFileError(
            f"{path}: of robot {spec.name!r}, interface {spec.interface_hash[:12]!r}, expected {expected.name!r},"
            f" {expected.interface_hash[:12]!r}"
        )
    return TransitionFile(spec, transitions, arrays)


def spec_to_text(spec: RobotSpec) -> str:
    """JSON of a spec; unlimited is Infinity."""
    return json.dumps(dataclasses.asdict(spec), sort_keys=True)


def spec_from_text(text: str) -> RobotSpec:
    """Spec of its JSON. Raises SpecError."""
    try:
        content = json.loads(text)
        state = {name: tuple(values) for name, values in content.pop("state").items()}
        action = {name: tuple(values) for name, values in content.pop("action").items()}
        return RobotSpec(state=StateSpec(**state), action=ActionSpec(**action), **content)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"robot: {error!r}; expected the JSON text of a robot's description") from None
