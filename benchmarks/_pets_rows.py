# SPDX-License-Identifier: Apache-2.0
"""Files of trials that grow a row at a time over hours, and folders that only one process works in."""

import csv
import fcntl
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mbrl_core.checkpoint import write_atomically

COLUMNS = {
    "side": str,
    "seed": int,
    "trial": int,
    "return": float,
    "steps": int,
    "seconds_per_plan": float,
    "seconds_planning": float,
    "seconds_fitting": float,
    "machine": str,
}


class StudyError(RuntimeError):
    """What lies on disk belongs to another study, or is in use; the text says which file and what was expected."""


@contextmanager
def held(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds a folder against a second benchmark in it. Raises StudyError when there is one, or waits for its end."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise StudyError(f"{folder}: another benchmark is at work there") from None
        yield
    finally:
        os.close(descriptor)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of trials; none where there is no file. Raises StudyError that names line and column."""
    if not path.exists():
        return []
    rows = []
    with open(path, newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=2):
            try:
                rows.append({name: convert(row[name]) for name, convert in COLUMNS.items()})
            except (KeyError, TypeError, ValueError) as error:
                raise StudyError(f"{path} line {number}: {error!r}, expected columns {', '.join(COLUMNS)}") from None
    return rows


def put_row(path: Path, row: Mapping[str, Any]) -> None:
    """Puts a trial's row into a file of trials, instead of the one of that side, seed and trial that is there."""
    with held(path.parent, wait=True):
        rows = {_key(old): old for old in read_rows(path)}
        rows[_key(row)] = dict(row)
        write_rows(path, list(rows.values()))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a file of trials, sorted, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS))
    writer.writeheader()
    writer.writerows(sorted(rows, key=_key))
    write_atomically(path, text.getvalue().encode())


def _key(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["side"], row["seed"], row["trial"]


def missing(
    rows: Sequence[Mapping[str, Any]], side: str, seeds: Sequence[int], learned_trials: int, steps: int
) -> list[int]:
    """Seeds of which a side's rows, of trials of `steps` steps, are not all there."""
    there = {_key(row) for row in rows if row["steps"] == steps}
    return [seed for seed in seeds if any((side, seed, trial) not in there for trial in range(learned_trials + 1))]
