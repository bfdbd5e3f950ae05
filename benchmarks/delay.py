# SPDX-License-Identifier: Apache-2.0
"""What a robot's own delay costs, and how much of that stating it in the robot file brings back.

Cart-pole and reacher, whose simulation lets each command act one and a half control periods after it came, in the
offline trial loop: without that delay, with it and nothing said of it, and with it stated as `control.delay`. Known
dynamics are MuJoCo itself; learned ones begin with a random trial and go on learning. The score is the mean return of
the trials that count on the way from that of random trials to that without delay, of the same dynamics, starts and
goals.
"""

import argparse
import dataclasses
import multiprocessing
import sys
import time
from typing import Any

import numpy as np
import torch
from _episodes import robot_of, task_of
from _offline import CONFIG, LearningRun, preset, tuning
from common import bar, report

from mbrl_core.robot_file import Robot
from mbrl_core.trial import random_controller, run_trial
from mbrl_dynamics.registry import make_model
from mbrl_planner.controller import PredictiveController
from mbrl_planner.objective import ModelObjective
from mbrl_planner.registry import make_planner
from mbrl_robot.delayed_simulation import DelayedSimulation
from mbrl_robot.simulation import MujocoSimulation

PERIODS = 1.5
CONDITIONS = ("no_delay", "not_stated", "stated")
LEARNED_TRIALS = {"cartpole": 4, "reacher": 8}
COUNTED = {"cartpole": 2, "reacher": 4}  # the last of them
KNOWN_TRIALS = {"cartpole": 1, "reacher": 4}


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = [
        (robot, dynamics, condition, seed)
        for seed in seeds
        for robot in options.robots
        for dynamics in options.dynamics
        for condition in CONDITIONS
    ]
    begin, rows = time.monotonic(), []
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for result in pool.imap(run, jobs):
            rows += result
            last = result[-1]
            names = " ".join(str(last[name]) for name in ("robot", "dynamics", "condition", "seed"))
            returns = " ".join(f"{row['return']:.1f}" for row in result)
            print(f"{names}: {returns} ({time.monotonic() - begin:.0f} s)", flush=True)
    bars, figures = judge(rows)
    return report("delay", bars, rows, figures)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--robots", nargs="+", default=list(KNOWN_TRIALS), choices=list(KNOWN_TRIALS))
    parser.add_argument("--dynamics", nargs="+", default=["known", "learned"], choices=["known", "learned"])
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    if options.seeds < 1 or options.workers < 1 or options.first_seed < 0:
        parser.error("--seeds and --workers: expected at least 1, --first-seed at least 0")
    return options


def with_delay(robot: Robot, condition: str) -> Robot:
    """The robot of a condition."""
    delay = PERIODS * robot.spec.period
    acting = 0.0 if condition == "no_delay" else delay
    return dataclasses.replace(
        robot,
        spec=dataclasses.replace(robot.spec, delay=delay if condition == "stated" else 0.0),
        simulation=dataclasses.replace(robot.simulation, command_delay=acting),
    )


def run(job: tuple[str, str, str, int]) -> list[dict[str, Any]]:
    """Rows of all trials of one seed under one condition."""
    torch.set_num_threads(1)
    name, dynamics, condition, seed = job
    robot = with_delay(robot_of(name), condition)
    trials = known(name, robot, seed) if dynamics == "known" else learned(name, robot, seed)
    key = {"robot": name, "dynamics": dynamics, "condition": condition, "seed": seed}
    return [{**key, "trial": index, "return": value} for index, value in enumerate(trials)]


def known(name: str, robot: Robot, seed: int) -> list[float]:
    """Returns of a random trial and of trials planned through MuJoCo itself."""
    values = {**preset("planner", "icem", "planner"), **tuning(name, "planner").get("planner", {})}
    parameters = {"robot_file": str(CONFIG / "robots" / f"{name}.yaml"), "threads": 1}
    truth = make_model("mujoco", parameters, robot.spec, 0)
    backend, returns = DelayedSimulation(MujocoSimulation(robot), robot), []
    for trial in range(1 + KNOWN_TRIALS[name]):
        task = task_of(name, seed * 100 + trial)
        objective = ModelObjective(truth, task, truth.members, "mean")
        controller = PredictiveController(make_planner(values, robot.spec, objective, seed))
        answer = random_controller(robot.spec, seed) if trial == 0 else lambda step: controller.answer(step).plan  # noqa: B023
        result = run_trial(backend, answer, task, robot.spec, robot.episode_steps, trial + 1, seed)
        returns.append(result.total_return)
    return returns


def learned(name: str, robot: Robot, seed: int) -> list[float]:
    """Returns of a random trial and of those that are learned from it on."""
    learning = LearningRun(name, seed, {}, robot)
    return [
        learning.trial(task_of(name, seed * 100 + trial), robot.episode_steps).total_return
        for trial in range(1 + LEARNED_TRIALS[name])
    ]


def judge(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Criteria and figures: the score of each condition, and what of the loss is left when the delay is stated."""
    bars, figures = [], {}
    for name, dynamics in dict.fromkeys((row["robot"], row["dynamics"]) for row in rows):
        mine = [row for row in rows if (row["robot"], row["dynamics"]) == (name, dynamics)]
        first = 1 + (LEARNED_TRIALS[name] - COUNTED[name] if dynamics == "learned" else 0)
        means = {
            condition: float(
                np.mean([row["return"] for row in mine if row["condition"] == condition and row["trial"] >= first])
            )
            for condition in CONDITIONS
        }
        random = float(np.mean([row["return"] for row in mine if row["trial"] == 0]))
        scores = {
            condition: (value - random) / (means["no_delay"] - random) for condition, value in means.items()
        }  # fmt: skip
        case = f"{name}_{dynamics}"
        figures |= {f"{case}_{condition}_return": value for condition, value in means.items()}
        figures |= {f"{case}_random_return": random, f"{case}_score_not_stated": scores["not_stated"]}
        bars.append(bar(f"{case}_score_stated", scores["stated"], at_least=0.9))
        left = (1.0 - scores["stated"]) / (1.0 - scores["not_stated"])
        bars.append(bar(f"{case}_share_of_loss_left", left, at_most=0.5))
    return bars, figures


if __name__ == "__main__":
    sys.exit(main())
