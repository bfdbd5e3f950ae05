# SPDX-License-Identifier: Apache-2.0
"""What the worker scripts share. They run in an environment without this project: NumPy alone is imported."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("stamp_ns", "received_ns")  # each with a `next_` one, of the state that a transition leads to
Arrays = dict[str, np.ndarray]


def runs(arrays: Arrays) -> Iterator[tuple[slice, int]]:
    """(where, place in the table of labels or -1) of each part without a gap."""
    episode, step = arrays["episode"], arrays["step"]
    cuts = np.flatnonzero((np.diff(episode) != 0) | (np.diff(step) != 1)) + 1
    bounds = [0, *cuts.tolist(), len(step)]
    labels = arrays.get("label_episode", np.zeros(0)).tolist()
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):  # noqa: RUF007 - Python 3.10 has it, too
        number = int(episode[first])
        yield slice(first, last), labels.index(number) if number in labels else -1


def label(arrays: Arrays, place: int) -> dict[str, Any]:
    """What is said of an episode."""
    if place < 0:
        return {"outcome": 0, "discarded": False, "task": "", "note": ""}
    return {
        "outcome": int(arrays["label_outcome"][place]), "discarded": bool(arrays["label_discarded"][place]),
        "task": str(arrays["label_task"][place]), "note": str(arrays["label_note"][place]),
    }  # fmt: skip


class Table:
    """Collects runs and writes them as a file of transitions."""

    def __init__(self) -> None:
        self._parts: list[Arrays] = []
        self._labels: dict[int, dict[str, Any]] = {}

    def add(self, part: Arrays, number: int, said: dict[str, Any]) -> None:
        """Takes one run of episode `number`."""
        self._parts.append({**part, "episode": np.full(len(part["action"]), number, dtype=np.int64)})
        self._labels[number] = said

    def save(self, path: str, spec: str) -> None:
        """Writes the file. Raises ValueError where nothing was added."""
        if not self._parts:
            raise ValueError("expected episodes, the data set has none")
        names = set.intersection(*(set(part) for part in self._parts))
        arrays: dict[str, Any] = {name: np.concatenate([part[name] for part in self._parts]) for name in names}
        numbers = sorted(self._labels)
        arrays["label_episode"] = np.array(numbers, dtype=np.int64)
        for name, kind in (("outcome", np.int64), ("discarded", np.bool_), ("task", np.str_), ("note", np.str_)):
            arrays[f"label_{name}"] = np.array([self._labels[number][name] for number in numbers], dtype=kind)
        np.savez_compressed(path, spec=np.array(spec), **arrays)


def robot(text: str | None, given: str, sizes: tuple[int, int]) -> str:
    """The robot's JSON text. Raises ValueError where there is none, or one of other sizes."""
    text = text or given
    if not text:
        raise ValueError("the data set does not say of which robot it is, expected a robot file")
    content = json.loads(text)
    expected = (len(content["state"]["names"]), len(content["action"]["names"]))
    if sizes != expected:
        raise ValueError(
            f"{sizes[0]} observed and {sizes[1]} action variables, expected {expected[0]} and {expected[1]} of robot"
            f" {content['name']!r}"
        )
    return text


def main(write: Callable[[Arrays, Path], None], read: Callable[[Path, str, str], None]) -> int:
    """Runs `write FILE FOLDER` or `read FOLDER FILE SPEC`; the last line of stderr says what went wrong."""
    command, source, target, *rest = sys.argv[1:]
    try:
        if command == "write":
            with np.load(source, allow_pickle=False) as stored:
                write({name: stored[name] for name in stored.files}, Path(target))
        else:
            read(Path(source), target, *rest)
    except Exception as error:  # whatever the library raises is told to the process that asked
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0
