# SPDX-License-Identifier: Apache-2.0
"""Inverse reinforcement learning: does what was inferred explain what was shown, and does planning with it transfer?

Tabular, exactly: an expert that is optimal for a reward that nobody else knows, its expectations exact. Bars:

    gridworld_mismatch             largest difference of a feature expectation over all seeds, soft policy to expert
    gridworld_value_difference     what the learned reward's optimal policy loses, (R* - R) / (R* - R_uniform)
    objectworld_value_difference   the same for a network on objectworld, where no linear reward will do

Robots: guided cost learning on reacher and cart-pole from 20 demonstrations of a planner on true dynamics, the reward
unknown. The learner plans and samples through the dynamics of the robot that was shown (`--model true`), or through an
ensemble that has learned from what was shown and from the learner's own episodes (`--model learned`). Then a changed
robot, all its masses and inertias times 1.5, in start states unlike those that were shown: every angle is turned by a
normal of 1 rad, where demonstrations begin within 0.06 (reacher) to 0.1 rad (cart-pole):

    ROBOT_S           planning with the learned reward, against the unhurried planner with the true reward there
    ROBOT_S_less_bc   the same less behavioural cloning of the same demonstrations, on the changed robot, paired

Both are told for unseen starts of the distribution that was shown, too (`_same_starts`); no bar is on these.

S = (R - R_random) / (R_oracle - R_random) with the true reward. Bounds are one-sided, 95 %, bootstrap of the
interquartile mean over seeds. `--seeds`, `--first-seed`: seeds 0.. are the bar's; settings were chosen on seeds from
100 on.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from _irl_robots import ROBOTS, SAME_STARTS, learned_run
from _irl_tabular import gridworld_run, objectworld_run
from _learning import lower_bound_of_interquartile_mean
from _twin import compile_library
from common import bar, report

PARTS = ("tabular", *ROBOTS)


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mbrl_irl_") as temporary:
        folder = Path(temporary)
        compile_library(folder)
        with ProcessPoolExecutor(options.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            jobs = []
            for name in (part for part in options.parts if part in ROBOTS):
                jobs += [
                    pool.submit(learned_run, name, seed, folder, options.model, seed == seeds[0]) for seed in seeds
                ]
            if "tabular" in options.parts:
                tabular = range(options.first_seed, options.first_seed + options.tabular_seeds)
                jobs += [pool.submit(run, seed) for run in (gridworld_run, objectworld_run) for seed in tabular]
            for job in jobs:
                rows.append(job.result())
                print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    bars = bars_of(rows)
    for item in bars:
        print(f"{item['name']}: {item['value']:.4g}, expected {item['bound']}")
    # What ran in part is kept apart from what ran in full.
    parts = [] if set(options.parts) == set(PARTS) else list(options.parts)
    models = [] if options.model == "true" else [options.model]
    return report("_".join(["irl", *parts, *models]), bars, rows, same_starts(rows))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds of the robots (default: 5)")
    parser.add_argument("--tabular-seeds", type=int, default=10, help="number of worlds of each kind (default: 10)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which of them (default: all)")
    parser.add_argument("--model", choices=("true", "learned"), default="true", help="what the learner samples through")
    options = parser.parse_args()
    if min(options.seeds, options.tabular_seeds, options.workers) < 1 or options.first_seed < 0:
        parser.error("expected --seeds, --tabular-seeds and --workers at least 1, --first-seed at least 0")
    return options


def bars_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """See the module's text; those of the parts that ran."""
    result = []

    def column(part: str, name: str) -> list[float]:
        return [row[name] for row in rows if row["part"] == part]

    if column("gridworld", "mismatch"):
        result.append(bar("gridworld_mismatch", max(column("gridworld", "mismatch")), at_most=1e-3))
        for part, most in (("gridworld", 0.01), ("objectworld", 0.05)):
            losses = column(part, "value_difference")
            bound = -lower_bound_of_interquartile_mean([-value for value in losses])
            result.append(bar(f"{part}_value_difference", bound, at_most=most))
    for name, (score, difference) in lower_bounds(rows, "").items():
        result.append(bar(f"{name}_S", score, at_least=0.9))
        result.append(bar(f"{name}_S_less_bc", difference, at_least=0.0))
    return result


def lower_bounds(rows: Sequence[dict[str, Any]], starts: str) -> dict[str, tuple[float, float]]:
    """By robot that ran, those of S and of S less that of cloning, of the columns that end with `starts`."""
    found = {}
    for name in ROBOTS:
        pairs = [(row[f"S{starts}"], row[f"S_bc{starts}"]) for row in rows if row["part"] == name]
        if pairs:
            found[name] = (
                lower_bound_of_interquartile_mean([ours for ours, _ in pairs]),
                lower_bound_of_interquartile_mean([ours - theirs for ours, theirs in pairs]),
            )
    return found


def same_starts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the bars are from starts like those that were shown, by robot."""
    return {
        name: {"S_same_starts": round(score, 4), "S_less_bc_same_starts": round(difference, 4)}
        for name, (score, difference) in lower_bounds(rows, SAME_STARTS).items()
    }


if __name__ == "__main__":
    sys.exit(main())
