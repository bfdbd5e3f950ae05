# SPDX-License-Identifier: Apache-2.0
"""The demonstration itself, several times: in real time, one random and four learned trials."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import bar, report

from mbrl_bringup import summary
from mbrl_bringup.run_files import Run, RunError, read_run

COLUMNS = (
    "trial", "return", "steps", "fallback_ticks", "missed_deadlines", "age_p99", "solve_time_p50", "solve_time_p99",
)  # fmt: skip


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="number of demonstrations (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first (default: 0)")
    parser.add_argument("--robot", default="cartpole", help="robot (default: cartpole)")
    parser.add_argument("--keep", default="", help="folder to keep the runs in (default: thrown away)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mbrl_demo_") as temporary:
        folder = Path(options.keep or temporary)
        runs = [demonstrate(options.robot, options.first_seed + index, folder) for index in range(options.runs)]
        differing = [summary.differing_transitions(run.directory)[0] for run in runs]
    table = [
        {
            "seed": run.information["seed"],
            **{
                name: row[name]
                for name in ("trial", "return", "fallback_ticks", "steps", "missed_deadlines", "age_p99")
            },
            "solve_time_p50": row["solve_time_p50"],
            "solve_time_p99": row["solve_time_p99"],
        }
        for run in runs
        for row in run.metrics
    ]
    last_two = [value for run in runs for value in run.returns(learned=True)[-2:]]
    ticks = sum(row["steps"] for row in table)
    ages = np.concatenate([executed_ages(run) for run in runs])
    bars = [
        bar("fallback_ticks_percent", 100.0 * sum(row["fallback_ticks"] for row in table) / ticks, at_most=0.5),
        bar("p99_age_of_executed_rows", float(np.percentile(ages, 99.0)), at_most=2),
        bar("transitions_that_differ_between_bag_and_learner", float(np.sum(differing)), at_most=0),
    ]
    if options.robot in summary.RETURN_BOUNDS:
        bound = summary.RETURN_BOUNDS[options.robot]
        bars.insert(0, bar("median_return_of_last_two_trials", statistics.median(last_two), at_least=bound))
    return report("demo", bars, table)


def demonstrate(robot: str, seed: int, folder: Path) -> Run:
    """One demonstration as a user starts it. Raises RunError when it leaves no results."""
    directory = folder / f"{robot}_seed_{seed}"
    command = [sys.executable, "-m", "mbrl_bringup.demo", robot, "--headless", "--seed", str(seed)]
    finished = subprocess.run(
        [*command, "--run-directory", str(directory)], env=dict(os.environ), capture_output=True, text=True
    )
    try:
        run = read_run(directory)
    except RunError as error:
        raise RunError(f"{error}\n{finished.stdout}{finished.stderr}") from None
    if finished.returncode != 0:
        print(f"{finished.stdout}{finished.stderr}", flush=True)
    print(f"seed {seed}: " + " ".join(f"{value:.1f}" for value in run.returns()), flush=True)
    return run


def executed_ages(run: Run) -> np.ndarray:
    """Ages (steps) of the rows that were executed as selected."""
    executed = np.logical_and(run.steps["step"] > 0, np.logical_not(run.steps["fallback"]))
    return np.asarray(run.steps["row_age"][executed])


if __name__ == "__main__":
    sys.exit(main())
