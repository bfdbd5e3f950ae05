# SPDX-License-Identifier: Apache-2.0
"""What a run directory holds of an experiment that was interrupted."""

import json
from pathlib import Path
from typing import Any

from mbrl_bringup import run_files
from mbrl_bringup.experiment import ExperimentConfig
from mbrl_core.config import ConfigurationError
from mbrl_core.specs import Array, RobotSpec

# Of an experiment that goes on, these have to be as they were.
SAME = ("algorithm", "mode", "seed", "random_trials")


def finished_trials(
    directory: Path, config: ExperimentConfig, spec: RobotSpec
) -> tuple[list[dict[str, Any]], list[dict[str, Array]], int]:
    """Rows of metrics.csv and arrays of steps.npz, one entry a trial, and the newest version of the task there was.

    Empty without `config.resume`, and where nothing has been finished. Raises ConfigurationError that names the file
    where the directory holds a run of another robot or experiment, or a damaged one.
    """
    file = directory / run_files.INFORMATION
    if not config.resume or not file.is_file():
        return [], [], 0
    try:
        information = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"parameter 'run_directory': {file}: {error}; expected a run to go on with") from None
    own = {"interface_hash": spec.interface_hash, **{name: getattr(config, name) for name in SAME}}
    for name, value in own.items():
        if information.get(name) != value:
            raise ConfigurationError(
                f"parameter 'resume': {file} has {name} {information.get(name)!r}, expected {value!r} to go on with it"
            )
    version = int(information.get("task_version", 0))
    if not (directory / run_files.METRICS).is_file():
        return [], [], version
    try:
        run = run_files.read_run(directory)
    except run_files.RunError as error:
        raise ConfigurationError(f"parameter 'run_directory': {error}; expected a run to go on with") from None
    # metrics.csv is written first: a trial of which it alone tells was cut off, and is run again.
    known = set(run.steps["trial"].tolist())
    rows = [row for row in run.metrics if row["trial"] in known]
    arrays = [{name: values[run.steps["trial"] == row["trial"]] for name, values in run.steps.items()} for row in rows]
    return rows, arrays, version
