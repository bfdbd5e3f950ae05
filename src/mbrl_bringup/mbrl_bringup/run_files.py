# SPDX-License-Identifier: Apache-2.0
"""Files of a run directory: metrics.csv (a row a trial), steps.npz (a row a time step), run.json, bag/, checkpoints."""

import csv
import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_core.checkpoint import write_atomically
from mbrl_core.specs import Array

METRICS = "metrics.csv"
STEPS = "steps.npz"
INFORMATION = "run.json"
BAG = "bag"
TEXT_COLUMNS = ("controller", "end_reason", "goal")


class RunError(ValueError):
    """A run directory lacks something. The text names the file."""


@dataclass(frozen=True)
class Run:
    """A run as it lies on disk. `metrics` has a dictionary for each trial; `steps` see TrialLog.arrays."""

    directory: Path
    information: dict[str, Any]
    metrics: list[dict[str, Any]]
    steps: dict[str, Array]

    def returns(self, learned: bool | None = None) -> list[float]:
        """Returns of the trials before evaluation, all or only learned or random ones."""
        rows = [row for row in self.metrics if not row["evaluation"]]
        return [row["return"] for row in rows if learned is None or bool(row["learned"]) == learned]

    def states(self, trial: int) -> Array:
        """States [steps + 1, state_size] of a trial."""
        return self.steps["state"][self.steps["trial"] == trial]


def write_metrics(directory: Path, rows: list[dict[str, Any]]) -> None:
    """Writes metrics.csv, whole. Raises OSError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    write_atomically(directory / METRICS, text.getvalue().encode())


def write_steps(directory: Path, trials: list[dict[str, Array]]) -> None:
    """Writes steps.npz, whole: the trials' columns one after the other. Raises OSError."""
    content = io.BytesIO()
    columns: dict[str, Any] = {name: np.concatenate([trial[name] for trial in trials]) for name in trials[0]}
    np.savez(content, **columns)
    write_atomically(directory / STEPS, content.getvalue())


def write_information(directory: Path, information: dict[str, Any]) -> None:
    """Writes run.json. Raises OSError."""
    write_atomically(directory / INFORMATION, (json.dumps(information, indent=1, sort_keys=True) + "\n").encode())


def read_run(directory: str | Path) -> Run:
    """Reads a run directory. Raises RunError when one of its files is missing or damaged."""
    directory = Path(directory)
    try:
        information = json.loads((directory / INFORMATION).read_text(encoding="utf-8"))
        with open(directory / METRICS, encoding="utf-8", newline="") as stream:
            metrics = [{key: _value(key, cell) for key, cell in row.items()} for row in csv.DictReader(stream)]
        with np.load(directory / STEPS, allow_pickle=False) as content:
            steps = {name: content[name] for name in content.files}
    except FileNotFoundError as error:
        raise RunError(f"{error.filename} does not exist: {directory} holds no finished trial") from None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{directory}: {error}") from None
    return Run(directory, information, metrics, steps)


def _cell(value: Any) -> Any:
    return repr(float(value)) if isinstance(value, (float, np.floating)) else value


def _value(key: str, cell: str) -> Any:
    if key in TEXT_COLUMNS:
        return cell
    number = float(cell)
    return int(number) if math.isfinite(number) and cell.lstrip("-").isdigit() else number
