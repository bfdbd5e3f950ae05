# SPDX-License-Identifier: Apache-2.0
"""What an experiment that starts again takes up of its run directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ament_index_python.packages import get_package_share_directory

from mbrl_bringup import run_files
from mbrl_bringup.experiment import ExperimentConfig, LearnerFigures, Trial, TrialLog
from mbrl_bringup.resumption import finished_trials
from mbrl_core.config import ConfigurationError
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import make_task

ROBOT = load_robot(Path(get_package_share_directory("mbrl_bringup")) / "config" / "robots" / "pendulum.yaml")
CONFIG = ExperimentConfig(seed=4, resume=True)


def log_of(trial: int, steps: int) -> TrialLog:
    """A trial of so many steps."""
    log = TrialLog(Trial(trial, "planner", True, False, True), ROBOT.spec, make_task("pendulum_upright"))
    for step in range(steps):
        kind = StepType.FIRST if step == 0 else StepType.LAST if step == steps - 1 else StepType.MID
        reason = EndReason.TIME_LIMIT if kind == StepType.LAST else EndReason.NOT_ENDED
        action = np.array([0.5 if step else np.nan])
        log.add(TimeStep(10 + trial, step, kind, np.array([0.1 * step, 0.0]), action, end_reason=reason), step)
    return log


def write(directory: Path, logs: list[TrialLog], arrays: int, **changes: Any) -> None:
    """A run with rows of all trials, and arrays of the first `arrays` of them."""
    information = {
        "interface_hash": ROBOT.spec.interface_hash, "algorithm": "mbrl_1_5", "mode": "realtime", "seed": 4,
        "random_trials": 1, "task_version": 7, **changes,
    }  # fmt: skip
    run_files.write_information(directory, information)
    if logs:
        run_files.write_metrics(directory, [log.metrics(LearnerFigures()) for log in logs])
        run_files.write_steps(directory, [log.arrays() for log in logs[:arrays]])


def test_finished_trials_come_back_with_the_version_of_the_task(tmp_path: Path) -> None:
    logs = [log_of(0, 5), log_of(1, 8)]
    write(tmp_path, logs, 2)
    rows, arrays, version = finished_trials(tmp_path, CONFIG, ROBOT.spec)
    assert version == 7
    assert [row["trial"] for row in rows] == [0, 1] and rows[1]["episode"] == 11
    assert [len(array["step"]) for array in arrays] == [5, 8]
    # Written again, both files are what they were.
    before = (tmp_path / run_files.METRICS).read_bytes()
    run_files.write_metrics(tmp_path, rows)
    run_files.write_steps(tmp_path, arrays)
    assert (tmp_path / run_files.METRICS).read_bytes() == before
    states = run_files.read_run(tmp_path).steps["state"]
    assert states.tobytes() == np.concatenate([log.arrays()["state"] for log in logs]).tobytes()


def test_a_trial_whose_steps_were_not_written_is_run_again(tmp_path: Path) -> None:
    write(tmp_path, [log_of(0, 5), log_of(1, 8)], 1)
    rows, arrays, _ = finished_trials(tmp_path, CONFIG, ROBOT.spec)
    assert [row["trial"] for row in rows] == [0] and len(arrays) == 1


def test_nothing_finished_and_nothing_asked_for(tmp_path: Path) -> None:
    assert finished_trials(tmp_path, CONFIG, ROBOT.spec) == ([], [], 0)
    write(tmp_path, [], 0)
    assert finished_trials(tmp_path, CONFIG, ROBOT.spec) == ([], [], 7)
    write(tmp_path, [log_of(0, 5)], 1)
    assert finished_trials(tmp_path, ExperimentConfig(seed=4), ROBOT.spec) == ([], [], 0)


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 5), ("algorithm", "mbrl_1_0"), ("interface_hash", "abc"), ("mode", "lockstep")]
)
def test_another_run_is_refused_and_named(tmp_path: Path, key: str, value: Any) -> None:
    write(tmp_path, [log_of(0, 5)], 1, **{key: value})
    with pytest.raises(ConfigurationError, match=rf"'resume'.*run\.json has {key} {value!r}, expected"):
        finished_trials(tmp_path, CONFIG, ROBOT.spec)


def test_a_damaged_run_is_refused_and_named(tmp_path: Path) -> None:
    write(tmp_path, [log_of(0, 5)], 1)
    (tmp_path / run_files.STEPS).write_bytes(b"PK damaged")
    with pytest.raises(ConfigurationError, match="'run_directory'.*expected a run to go on with"):
        finished_trials(tmp_path, CONFIG, ROBOT.spec)
    (tmp_path / run_files.INFORMATION).write_text(json.dumps({})[:1])
    with pytest.raises(ConfigurationError, match=r"run\.json"):
        finished_trials(tmp_path, CONFIG, ROBOT.spec)
