# SPDX-License-Identifier: Apache-2.0
"""What a run was worth: the summary that ends a demonstration, and its criteria."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_bringup.learned_from import read_learned_transitions
from mbrl_bringup.results import bar
from mbrl_bringup.run_files import BAG, Run
from mbrl_policy.bags import BagError, check_same_transitions, read_transitions

# What the last two trials are held to. On the cart-pole, random play returns -4 and a perfect planner about 181.
RETURN_BOUNDS = {"cartpole": 165.0}


def run_bars(run: Run) -> list[dict[str, Any]]:
    """Criteria of a realtime run: learning, fallback, age of the executed rows, and the bag against the learner."""
    rows = run.metrics
    bars = []
    bound = RETURN_BOUNDS.get(run.information["robot"])
    if bound is not None:
        bars.append(bar("median_return_of_last_two_trials", last_two(run), at_least=bound))
    return [
        *bars,
        bar("fallback_ticks_percent", fallback_percent(run), at_most=0.5),
        bar("p99_age_of_executed_rows", age_percentile(run, 99.0), at_most=2),
        bar("lost_time_steps", sum(row["lost_time_steps"] for row in rows), at_most=0),
        bar("transitions_that_differ_between_bag_and_learner", differing_transitions(run.directory)[0], at_most=0),
    ]


def last_two(run: Run) -> float:
    """Median return of the last two learned trials."""
    return statistics.median(run.returns(learned=True)[-2:] or [float("nan")])


def fallback_percent(run: Run) -> float:
    """Share of control ticks that another than the selected controller served, percent."""
    ticks = sum(row["steps"] for row in run.metrics)
    return 100.0 * sum(row["fallback_ticks"] for row in run.metrics) / ticks if ticks else float("nan")


def age_percentile(run: Run, percent: float) -> float:
    """Age of the executed rows, steps, over all trials."""
    executed = np.logical_and(run.steps["step"] > 0, np.logical_not(run.steps["fallback"]))
    return float(np.percentile(run.steps["row_age"][executed], percent)) if executed.any() else float("nan")


def differing_transitions(directory: Path) -> tuple[float, str]:
    """How many transitions differ between the bag and what the learner learned from, and what differs; NaN when
    one of them cannot be read."""
    try:
        recorded, used = read_transitions(directory / BAG), read_learned_transitions(directory)
    except (BagError, FileNotFoundError) as error:
        return float("nan"), str(error)
    try:
        check_same_transitions(recorded, used)
    except BagError as error:
        common = min(len(recorded), len(used))
        same = np.ones(common, dtype=bool)
        for name in ("episode", "step", "state", "action", "next_state"):
            first, second = getattr(recorded, name)[:common], getattr(used, name)[:common]
            same &= (first == second).reshape(common, -1).all(axis=1)
        return float(max(len(recorded), len(used)) - same.sum()), str(error)
    return 0.0, f"{len(recorded)} transitions, one by one"


def print_summary(run: Run) -> None:
    """Prints a table of the trials and where the files are."""
    print(f"\n{run.information['robot']}: {run.information['algorithm']}, seed {run.information['seed']}")
    print(f"{'trial':>5}  {'controller':<10} {'return':>8} {'optimism':>8} {'model':>6} {'error':>8} "
          f"{'solve p50/p99 ms':>17} {'missed':>6} {'fallback':>8} {'rate Hz':>8}")  # fmt: skip
    for row in run.metrics:
        solve = f"{1e3 * row['solve_time_p50']:.1f} / {1e3 * row['solve_time_p99']:.1f}"
        print(f"{row['trial']:>5}  {row['controller']:<10} {row['return']:>8.1f} {row['optimism_gap']:>8.2f} "
              f"{row['model_version']:>6} "
              f"{row['prequential_error']:>8.4f} {solve:>17} {row['missed_deadlines']:>6} {row['fallback_ticks']:>8} "
              f"{row['control_rate']:>8.2f}")  # fmt: skip
    print(f"age of executed rows: median {age_percentile(run, 50):.0f}, p99 {age_percentile(run, 99):.0f} steps; "
          f"fallback {fallback_percent(run):.2f} % of ticks")  # fmt: skip
    if run.information.get("obstacles") or any(row.get("violations") for row in run.metrics):
        counted = ", ".join(str(row["violations"]) for row in run.metrics)
        print(f"steps inside an obstacle, by trial: {counted}")
    print(f"bag against learner: {differing_transitions(run.directory)[1]}")
    print(f"run directory: {run.directory}")
    for path in sorted(run.directory.iterdir()):
        if not path.name.startswith("."):
            print(f"  {path.name}{'/' if path.is_dir() else ''}")
    print(f"What planner, model and latency cost it says `./mbrl plot {run.directory} --ledger`, in minutes.")
