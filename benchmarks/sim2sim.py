# SPDX-License-Identifier: Apache-2.0
"""What is learned in MuJoCo, run in DART, the physics of Gazebo: cart-pole and reacher, model and policy.

Everything runs in the graph, mbrl.launch.yaml in lockstep. Model and policy are learned with `backend:=mujoco` and
handed over as checkpoints to a graph with `backend:=dart`, where the learner goes on learning for one trial;
_sim2sim.py says what the runs are. Bars, each a one-sided 95 % bootstrap bound of the interquartile mean over seeds:

    ROBOT_planner_S     planning through the transferred model after one trial of adaptation in DART
    ROBOT_policy_S      the transferred policy as it comes, without any trial of adaptation

Told beside them: planning without adaptation, and the policy that one round of distilling makes anew of the transferred
model and a single trial in DART, a law from one trajectory that may fail.

S = (R - R_random) / (R_oracle - R_random), both references of the same physics, start state and goal. S in MuJoCo is
told, too. Settings were chosen on seeds from 200 on; 0 and on are the bars'. Needs dartpy for the system's Python.
There is no published figure to stand beside.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from _learning import interquartile_mean, lower_bound_of_interquartile_mean
from _sim2sim import ROBOTS, STAGES, Row, add_references, run_stages
from common import bar, report

from mbrl_core.checkpoint import write_atomically
from mbrl_core.robot_description.dart import MISSING, SYSTEM_PYTHON, available

WANTED = 0.95
# What is judged and told: name, stage, controller. Of each run's trials by a controller the last one counts.
COLUMNS = (
    ("planner_in_mujoco", "learn", "planner"),
    ("policy_in_mujoco", "learn", "policy"),
    ("planner_zero_shot", "zero_shot", "planner"),
    ("policy_zero_shot", "zero_shot", "policy"),
    ("planner_adapted", "adapt", "planner"),
    ("policy_adapted", "distil", "policy"),
)
JUDGED = {"planner_adapted": "planner", "policy_zero_shot": "policy"}


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    if not available():
        print(f"sim2sim: {MISSING.format(python=SYSTEM_PYTHON)}", file=sys.stderr)
        return 2
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with tempfile.TemporaryDirectory(prefix="mbrl_sim2sim_") as temporary:
        rows = measure(options, Path(options.keep or temporary), seeds)
    told, bars = {}, []
    for robot in options.robots:
        for name, stage, controller in COLUMNS:
            values = scores(rows, robot, stage, controller)
            told[f"{robot}_{name}"] = round(float(interquartile_mean(values)), 4)
            bound = lower_bound_of_interquartile_mean(values.tolist())
            print(
                f"{robot:9} {name:18} S {told[f'{robot}_{name}']:.4f}, lower bound {bound:.4f}, {np.round(values, 3)}"
            )
            if name in JUDGED:
                bars.append(bar(f"{robot}_{JUDGED[name]}_S", bound, at_least=WANTED))
    return report("sim2sim", bars, rows, told)


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--keep", default="", help="folder of finished runs, which are not done again")
    parser.add_argument("--robots", nargs="+", default=list(ROBOTS), choices=ROBOTS)
    options = parser.parse_args()
    if options.seeds < 1 or options.workers < 1 or options.first_seed < 0:
        parser.error("--seeds and --workers: expected at least 1, --first-seed at least 0")
    return options


def measure(options: argparse.Namespace, folder: Path, seeds: Sequence[int]) -> list[Row]:
    """Rows of all trials, those that are judged or told with their references and scores."""
    started = time.monotonic()
    rows = []
    jobs = [(folder, robot, seed) for seed in seeds for robot in options.robots]
    with ProcessPoolExecutor(options.workers) as pool:
        for (_, robot, seed), found in zip(jobs, pool.map(rows_of, *zip(*jobs, strict=True)), strict=True):
            rows += found
            told = ", ".join(
                f"{row['stage']} {row['controller']} {row['score']:.3f}" for row in found if "score" in row
            )
            print(f"{robot} seed {seed}: {told} ({time.monotonic() - started:.0f} s)", flush=True)
    return rows


def rows_of(folder: Path, robot: str, seed: int) -> list[Row]:
    """Rows of a robot and seed; its runs are read from `folder` where they are there, and kept there else."""
    path = folder / f"{robot}_{seed}.json"
    if path.is_file():
        rows = list(json.loads(path.read_text(encoding="utf-8")))
    else:
        rows = run_stages(folder, robot, seed, tuple(STAGES))
        write_atomically(path, json.dumps(rows).encode())
    for _, stage, controller in COLUMNS:
        own = [index for index, row in enumerate(rows) if (row["stage"], row["controller"]) == (stage, controller)]
        rows[own[-1]] = add_references(rows[own[-1]])
    return rows


def scores(rows: Sequence[Row], robot: str, stage: str, controller: str) -> np.ndarray:
    """S of each seed."""
    return np.array(
        [
            row["score"]
            for row in rows
            if (row["robot"], row["stage"], row["controller"]) == (robot, stage, controller) and "score" in row
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
