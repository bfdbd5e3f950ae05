# SPDX-License-Identifier: Apache-2.0
"""Every decision of lockstep runs, recomputed from its bag alone: how many come out other than they were taken.

Whole runs of the graph on the cart-pole, one for each kind of planner, a learned model that is fitted while the robot
moves. The bag is moved away from its run before it is read. The bar: not a single plan, of hundreds, differs in a bit
of its actions, predicted states, spread, gains or predicted return. results/replay.csv has a row an episode.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import bar, report

from mbrl_bringup.batch import RunRequest, execute_all
from mbrl_bringup.replay_check import check_episodes
from mbrl_bringup.replay_recording import read_recording

KINDS = ("icem", "cem", "mppi", "pddm", "cma_es", "gradient", "ilqr", "poplin_p", "poplin_a_init", "random_shooting")
STEPS = 60
FITS = {"dynamics.first_steps": 200, "dynamics.refit_steps": 60, "learner.refit_interval": 20}
# Smaller plans than the presets': what counts here is each bit, not the skill.
SMALL = {"planner.iterations": 2, "planner.horizon": 12, "planner.population_size": 40, "planner.elites": 10}


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="planner presets (default: all)")
    parser.add_argument("--trials", type=int, default=4, help="trials a run, the first a random one (default: 4)")
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time (default: 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mbrl_replay_") as folder:
        rows = measure(Path(folder), options)
    plans, exact = (sum(row[name] for row in rows) for name in ("plans", "exact"))
    versions = sum(row["model_versions"] for row in rows) / len(rows)
    print(f"{exact} of {plans} plans bit for bit, in {len(rows)} episodes of {versions:.1f} model versions each")
    doubts = sum(row["doubts"] for row in rows)
    bars = [
        bar("plans_that_differ", plans - exact, at_most=0),
        bar("plans_recomputed", plans, at_least=len(options.kinds) * (options.trials - 1) * (STEPS - 5)),
        bar("reasons_for_doubt", doubts, at_most=0),
    ]
    return report("replay", bars, rows)


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each learned episode."""
    requests = [request(folder / kind, kind, options.trials) for kind in options.kinds]
    rows = []
    for kind, run in zip(options.kinds, execute_all(requests, options.workers), strict=True):
        alone = folder / f"bag_of_{kind}"
        shutil.move(run.directory / "bag", alone)
        shutil.rmtree(run.directory)
        recording = read_recording(alone)
        for check in check_episodes(recording):
            plans = [plan.message for plan in recording.episode(check.episode).plans]
            row = {
                "planner": kind,
                "episode": check.episode,
                "plans": check.plans,
                "exact": check.exact,
                "largest_difference": check.largest,
                "model_versions": len({plan.model_version for plan in plans}),
                "doubts": len(check.doubts),
            }
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
    return rows


def request(directory: Path, kind: str, trials: int) -> RunRequest:
    """A lockstep run with one kind of planner."""
    arguments = {"robot": "cartpole", "mode": "lockstep", "trials": str(trials), "seed": "3", "planner": kind}
    parameters = {"experiment": {"episode_steps": STEPS}, "learner": FITS, "planner": SMALL}
    return RunRequest(directory, arguments, parameters, timeout=900.0)


if __name__ == "__main__":
    sys.exit(main())
