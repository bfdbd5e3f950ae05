# SPDX-License-Identifier: Apache-2.0
"""0.5, 0.5 + MPC, 1.0, 1.5 and 2.0 on pendulum and cart-pole at equal robot time: what replanning and data are worth.

What each version is, and how its points are made, is said in benchmarks/_versions.py. Bars, by one-sided 95 % bootstrap
bounds of the interquartile mean over seeds:

    score   S of 1.5 less that of 1.0, mean over the trials after the random one, paired by seed: above 0
    error   log of the model error of 1.0 over that of 0.5 at equal robot time, on what both of them visit in the trial
            that follows, mean over the trials after which they differ: below 0

S = (R - R_random) / (R_oracle - R_random), the oracle being an unhurried planner on the true dynamics from the same
start state, R_random the mean of a few random trials. 2.0 is told, not judged. results/versions.png has the learning
curves.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _learning import interquartile_mean, lower_bound_of_interquartile_mean
from _versions import VERSIONS, run_models, run_policy, run_references
from _versions_plot import draw
from common import bar, report

from mbrl_core.checkpoint import write_atomically

ROBOTS = ("pendulum", "cartpole")
RUNS = {"models": run_models, "policy": run_policy, "references": run_references}
FULL_TRIALS = 10

Row = dict[str, Any]


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows, references = measure(options, seeds)
    add_scores(rows, references)
    print_table(rows, options.trials)
    print(f"drawn: {draw(rows, VERSIONS)}")
    bars = [item for robot in options.robots for item in bars_of(rows, robot, seeds)]
    told = figures(rows, options.trials)
    for name, value in told.items():
        print(f"{name}: {value:+.4f} (interquartile mean)")
    for item in bars:
        print(f"{item['name']}: {item['value']:.4g}, expected {item['bound']}")
    return report("versions", bars, [*rows, *references], told)


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds (default: 10)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--trials", type=int, default=4, help="of robot time, the random one included (default: 4)")
    parser.add_argument("--full", action="store_true", help=f"{FULL_TRIALS} trials")
    parser.add_argument("--keep", default="", help="folder of finished runs, which are not done again")
    parser.add_argument("--robots", nargs="+", default=list(ROBOTS), choices=ROBOTS)
    options = parser.parse_args()
    if options.seeds < 1 or options.workers < 1 or options.first_seed < 0 or options.trials < 2:
        parser.error("--seeds and --workers: expected at least 1, --first-seed at least 0, --trials at least 2")
    options.trials = FULL_TRIALS if options.full else options.trials
    return options


def measure(options: argparse.Namespace, seeds: Sequence[int]) -> tuple[list[Row], list[Row]]:
    """Rows of all versions, and of what their scores are relative to."""
    rows: list[Row] = []
    references: list[Row] = []
    jobs = [(run, robot, seed) for seed in seeds for robot in options.robots for run in RUNS]
    with ProcessPoolExecutor(options.workers) as pool:
        futures = [pool.submit(rows_of, *job, options.trials, options.keep) for job in jobs]
        for (run, robot, seed), future in zip(jobs, futures, strict=True):
            (references if run == "references" else rows).extend(future.result())
            print(f"{robot} seed {seed}: {run} done", flush=True)
    return rows, references


def rows_of(run: str, robot: str, seed: int, trials: int, keep: str) -> list[Row]:
    """Rows of one job; read from the folder `keep` where they are there already, and written there else."""
    path = Path(keep) / f"{robot}_{seed}_{trials}_{run}.json" if keep else None
    if path is not None and path.is_file():
        return list(json.loads(path.read_text(encoding="utf-8")))
    rows = RUNS[run](robot, seed, trials)
    if path is not None:
        write_atomically(path, json.dumps(rows).encode())
    return rows


def add_scores(rows: Sequence[Row], references: Sequence[Row]) -> None:
    """Adds S to each row."""
    for row in rows:
        own = [one for one in references if (one["robot"], one["seed"]) == (row["robot"], row["seed"])]
        random = float(np.mean([one["return"] for one in own if one["version"] == "random"]))
        (oracle,) = (one["return"] for one in own if (one["version"], one["trials"]) == ("oracle", row["trials"]))
        row["score"] = (row["return"] - random) / (oracle - random)


def column(
    rows: Sequence[Row], robot: str, version: str, seeds: Sequence[int], name: str, first: int = 1
) -> np.ndarray:
    """[seeds, trials] of a column, of the points after `first` trials and more."""
    return np.array(
        [
            [
                row[name]
                for row in rows
                if (row["robot"], row["version"], row["seed"]) == (robot, version, seed) and row["trials"] >= first
            ]
            for seed in seeds
        ]
    )


def log_error_ratio(rows: Sequence[Row], robot: str, seeds: Sequence[int], name: str = "error_visited") -> np.ndarray:
    """[seeds]: log of the model error of 1.0 over that of 0.5, mean over trials; after the first they are the same."""
    own, once = (column(rows, robot, version, seeds, name, 2) for version in ("1.0", "0.5"))
    return np.asarray(np.log(own / once).mean(axis=1))


def bars_of(rows: Sequence[Row], robot: str, seeds: Sequence[int]) -> list[Row]:
    """The two criteria on a robot."""
    later, earlier = (column(rows, robot, version, seeds, "score").mean(axis=1) for version in ("1.5", "1.0"))
    gain = later - earlier
    ratio = log_error_ratio(rows, robot, seeds)
    return [
        bar(f"{robot}_1.5_less_1.0_lower_bound", lower_bound_of_interquartile_mean(gain.tolist()), at_least=0.0),
        bar(
            f"{robot}_log_error_1.0_over_0.5_upper_bound",
            -lower_bound_of_interquartile_mean((-ratio).tolist()),
            at_most=0.0,
        ),
    ]


def figures(rows: Sequence[Row], trials: int) -> dict[str, float]:
    """Interquartile means over seeds: S of every version after the last trial, and what the bars are about."""
    told = {}
    for robot in dict.fromkeys(row["robot"] for row in rows):
        seeds = sorted({row["seed"] for row in rows if row["robot"] == robot})
        for version in VERSIONS:
            told[f"{robot} {version}"] = column(rows, robot, version, seeds, "score", trials)[:, 0]
        told[f"{robot} 1.5 less 1.0"] = np.subtract(
            *(column(rows, robot, version, seeds, "score").mean(axis=1) for version in ("1.5", "1.0"))
        )
        for name in ("error_visited", "median_error_visited"):
            told[f"{robot} log {name} 1.0 over 0.5"] = log_error_ratio(rows, robot, seeds, name)
    return {name: round(float(interquartile_mean(values)), 4) for name, values in told.items()}


def print_table(rows: Sequence[Row], trials: int) -> None:
    """Interquartile means over seeds of S, and of the model error on visited states."""
    for robot in dict.fromkeys(row["robot"] for row in rows):
        seeds = sorted({row["seed"] for row in rows if row["robot"] == robot})
        print(f"{robot:12s}" + "".join(f"{count:>18d}" for count in range(1, trials + 1)) + "   trials: S (error)")
        for version in VERSIONS:
            scores = interquartile_mean(column(rows, robot, version, seeds, "score").T)
            known = any("error_visited" in row for row in rows if row["version"] == version)
            errors = (
                interquartile_mean(column(rows, robot, version, seeds, "error_visited").T)
                if known
                else np.full(trials, np.nan)
            )
            cells = [f"{score:9.3f} ({error:6.3f})" for score, error in zip(scores, errors, strict=True)]
            print(f"{version:12s}" + "".join(cells))


if __name__ == "__main__":
    sys.exit(main())
