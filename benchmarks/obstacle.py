# SPDX-License-Identifier: Apache-2.0
"""A planar arm learns to reach targets past a disc, with the planner's collision cost off, neutral and risk-averse.

Every trial has a target and a disc of its own, drawn so that the arm that turns stretched out sweeps over the disc and
one that folds first does not. After one random trial the arm plans through what it has learned so far, and each trial's
data is learned from. Three arms of the study see the same robots, targets, discs, random trials and budgets:

  ignored   no collision cost: what obstacles are without the feature
  neutral   speed x mean of the members' collision probabilities
  averse    speed x (mean + lambda x standard deviation across members)

A violation is a control step after which a point of the arm is inside the disc, judged by the simulation's true state.
The bars compare `averse` with `ignored`: collision cost on and off; `neutral` is in the CSV and the printed table to
show what the standard deviation adds. Scores S = (R - R_random) / (R_oracle - R_random) are of the task's reward, no
penalties in it, summed over a seed's learned trials; the oracle plans on the true dynamics and ignores discs.
"""

import argparse
import dataclasses
import math
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _learning import RESAMPLES, interquartile_mean
from _offline import CONFIG, LearningRun, oracle_trial, preset
from common import bar, report

from mbrl_core.random_streams import generator
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import Task, task_of_preset
from mbrl_core.trial import random_controller, run_trial
from mbrl_robot.simulation import MujocoSimulation

ROBOT = "reacher"
STEPS = 50
RADIUS = 0.03  # of the disc, m
# Two particles a member, which the standard deviation across members needs, and a longer look ahead than where nothing
# is in the way; for all arms alike.
PLANNER = {"particles": 10, "horizon": 16}
ARMS: dict[str, dict[str, float]] = {
    "ignored": {"collision_weight": 0.0},
    "neutral": {"collision_weight": 3.0},
    "averse": {"collision_weight": 3.0, "collision_std_weight": 3.0},
}
REFERENCES = ("oracle", "random")


@dataclass(frozen=True)
class Job:
    """One arm (or reference) of one seed."""

    arm: str
    seed: int
    trials: int


def task_of(seed: int, trial: int) -> Task:
    """Target and disc of a trial.

    The target is 8 to 16 cm from the base, which the arm reaches folded, 70 to 150 degrees to the left or right of
    where it starts, stretched out. The disc is half way, 18.5 to 21 cm from the base, give or take 15 % of the angle.
    """
    random = generator(seed, trial, 0, "obstacle")
    angle = random.choice([-1.0, 1.0]) * random.uniform(1.2, 2.6)
    radius = math.sqrt(random.uniform(0.08**2, 0.16**2))
    direction, distance = angle * random.uniform(0.35, 0.65), random.uniform(0.185, 0.21)
    return dataclasses.replace(
        task_of_preset(preset("tasks", "reacher_target", "task")),
        goal=(radius * math.cos(angle), radius * math.sin(angle)),
        obstacles=(distance * math.cos(direction), distance * math.sin(direction), RADIUS),
    )


def execute(job: Job) -> list[dict[str, Any]]:
    """A row for each learned trial of a job, after one for the random trial where it is learned from."""
    torch.set_num_threads(1)
    run = LearningRun(ROBOT, job.seed, {**PLANNER, **ARMS[job.arm]}) if job.arm in ARMS else None
    rows = []
    # The first trial is there to be learned from.
    for number in range(0 if run is not None else 1, job.trials + 1):
        task = task_of(job.seed, number)
        if run is not None:
            trial = run.trial(task, STEPS)
        elif job.arm == "oracle":
            trial = oracle_trial(ROBOT, task, STEPS, number + 1, job.seed)
        else:
            robot = load_robot(CONFIG / "robots" / f"{ROBOT}.yaml")
            controller = random_controller(robot.spec, job.seed)
            trial = run_trial(MujocoSimulation(robot), controller, task, robot.spec, STEPS, number + 1, job.seed)
        inside = task.violates(trial.state[1:])
        rows.append(
            {
                "arm": job.arm,
                "seed": job.seed,
                "trial": number,
                "learned": int(number > 0),
                "return": trial.total_return,
                "violations": int(inside.sum()),
                "deepest": float(-task.nearest(trial.state[1:]).clearance.min()),
                "final_distance": float(np.sqrt(task.squared_distance(trial.state[-1]))),
                "goal": " ".join(f"{value:.4f}" for value in task.goal),
                "obstacle": " ".join(f"{value:.4f}" for value in task.obstacles),
            }
        )
    return rows


def by_seed(rows: Sequence[Mapping[str, Any]], arm: str, column: str, seeds: Sequence[int]) -> np.ndarray:
    """Sum of a column over the learned trials of each seed."""
    chosen = [row for row in rows if row["arm"] == arm and row["learned"]]
    return np.array([sum(row[column] for row in chosen if row["seed"] == seed) for seed in seeds], dtype=float)


def upper_bound(statistic: Any, count: int) -> float:
    """One-sided 95 % bootstrap bound over seeds of a statistic of their indices."""
    draws = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    return float(np.percentile([statistic(draw) for draw in draws], 95.0))


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds (default: 10)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--trials", type=int, default=5, help="learned trials of a seed (default: 5)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--full", action="store_true", help="10 learned trials of 30 seeds")
    options = parser.parse_args()
    if options.full:
        options.seeds, options.trials = 30, 10
    if min(options.seeds, options.trials, options.workers) < 1 or options.first_seed < 0:
        parser.error("--seeds, --trials and --workers: expected at least 1, --first-seed at least 0")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = [Job(arm, seed, options.trials) for seed in seeds for arm in (*ARMS, *REFERENCES)]
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for found in pool.imap(execute, jobs):
            rows += found
            learned = [row for row in found if row["learned"]]
            print(
                f"seed {learned[0]['seed']} {learned[0]['arm']}: return {sum(row['return'] for row in learned):.1f},"
                f" violations {sum(row['violations'] for row in learned)}",
                flush=True,
            )
    return judge(rows, list(seeds))


def judge(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> int:
    """Prints the table of arms, and the bars."""
    returns = {arm: by_seed(rows, arm, "return", seeds) for arm in (*ARMS, *REFERENCES)}
    violations = {arm: by_seed(rows, arm, "violations", seeds) for arm in (*ARMS, *REFERENCES)}
    span = returns["oracle"] - returns["random"]
    scores = {arm: (returns[arm] - returns["random"]) / span for arm in ARMS}
    trials = sum(row["learned"] for row in rows) / len(returns) / len(seeds)
    for arm in ARMS:
        print(
            f"{arm:<8} S {interquartile_mean(scores[arm]):.3f} (IQM),"
            f" violations a trial {violations[arm].mean() / trials:.3f}, trials with any"
            f" {np.mean([row['violations'] > 0 for row in rows if row['arm'] == arm and row['learned']]):.2f}"
        )

    def ratio(drawn: np.ndarray) -> float:
        without = violations["ignored"][drawn].sum()
        return float(violations["averse"][drawn].sum() / without) if without > 0 else math.nan

    def loss(drawn: np.ndarray) -> float:
        before, after = (interquartile_mean(scores[arm][drawn]) for arm in ("ignored", "averse"))
        return float(100.0 * (1.0 - after / before))

    return report(
        "obstacle",
        [
            # Without violations to avoid the other bars would say nothing.
            bar("violations_a_trial_without_collision_cost", violations["ignored"].mean() / trials, at_least=0.5),
            bar("violations_with_over_without", upper_bound(ratio, len(seeds)), at_most=0.2),
            bar("percent_of_S_lost", upper_bound(loss, len(seeds)), at_most=10.0),
        ],
        list(rows),
    )


if __name__ == "__main__":
    sys.exit(main())
