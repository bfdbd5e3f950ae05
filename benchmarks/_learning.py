# SPDX-License-Identifier: Apache-2.0
"""What the learning benchmarks share: the same nodes as always, in lockstep, over many seeds."""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_bringup.batch import RunRequest, execute_all
from mbrl_bringup.run_files import Run

RESAMPLES = 10_000
# Nothing is timed here: a machine that is busy or asleep for minutes makes a run late, not wrong.
PATIENT = {
    "robot": {"lockstep_timeout": 900.0, "start_timeout": 900.0},
    "experiment": {"ready_timeout": 900.0, "stall_timeout": 900.0, "fit_timeout": 900.0},
}


def arguments(description: str, seeds: int) -> argparse.Namespace:
    """Command line of a benchmark over seeds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=seeds, help=f"number of seeds (default: {seeds})")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--keep", default="", help="folder to keep the runs in (default: thrown away)")
    options = parser.parse_args()
    if options.seeds < 1 or options.workers < 1 or options.first_seed < 0:
        parser.error("--seeds and --workers: expected at least 1, --first-seed at least 0")
    return options


def run_seeds(
    options: argparse.Namespace,
    robot: str,
    trials: int,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Run]:
    """Lockstep runs of a robot, one for each seed, `trials` with the random one."""
    with tempfile.TemporaryDirectory(prefix=f"mbrl_{robot}_") as temporary:
        folder = Path(options.keep or temporary)
        common = {"mode": "lockstep", "record": "false"}
        requests = [
            RunRequest(
                folder / f"{robot}_seed_{seed}",
                {**common, "robot": robot, "trials": str(trials), "seed": str(seed)},
                {
                    node: {**PATIENT.get(node, {}), **(parameters or {}).get(node, {})}
                    for node in {*PATIENT, *(parameters or {})}
                },
                timeout=1500.0,
            )
            for seed in range(options.first_seed, options.first_seed + options.seeds)
        ]
        return execute_all(requests, options.workers)


def rows(
    runs: Sequence[Run], extra: Callable[[Run, dict[str, Any]], dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """One row of raw numbers for each trial of each run."""
    columns = (
        "trial",
        "return",
        "steps",
        "model_version",
        "prequential_error",
        "success_steps",
        "success_steps_at_end",
    )
    result = []
    for run in runs:
        for metrics in run.metrics:
            row = {"seed": run.information["seed"], **{name: metrics[name] for name in columns}}
            result.append({**row, **(extra(run, metrics) if extra is not None else {})})
    return result


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis; the values at its edges count in part (Agarwal et al. 2021)."""
    ordered = np.sort(values, axis=-1)
    count = ordered.shape[-1]
    edges = np.arange(count + 1) / count
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return np.asarray((ordered * weights).sum(axis=-1) / weights.sum())


def lower_bound_of_interquartile_mean(values: Sequence[float]) -> float:
    """One-sided 95 % bootstrap bound over seeds."""
    data = np.asarray(values, dtype=float)
    random = np.random.default_rng(0)
    samples = data[random.integers(0, len(data), (RESAMPLES, len(data)))]
    return float(np.percentile(interquartile_mean(samples), 5.0))
