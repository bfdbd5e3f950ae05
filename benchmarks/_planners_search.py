# SPDX-License-Identifier: Apache-2.0
"""Equal tuning for all planners: the same number of configurations, seeds and model calls for each, on every robot.

Random search in two rounds: CONFIGURATIONS draws from a planner's space, its preset among them, on the seeds of
FIRST; the best FINALISTS again on those of SECOND; the best mean over both is kept. None of these seeds is one of the
benchmark's.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _episodes import Job, Workers, preset_of

RESULT = Path(__file__).parent / "results" / "planners_tuning.csv"
CONFIGURATIONS, FINALISTS = 12, 3
# Seed and model calls a plan of each episode, so that no planner is tuned for one budget.
FIRST = ((100, 1200), (101, 3000))
SECOND = ((102, 600), (103, 1200), (104, 3000), (105, 6000))

HORIZON = {"cartpole": 25, "acrobot": 25, "reacher": 12}  # steps; the same for every planner
STEPS = {"cartpole": 200, "acrobot": 200, "reacher": 50}  # an episode

NOISE_STD = (0.15, 0.25, 0.5, 1.0)
CEM = {
    "initial_std": (0.25, 0.5, 1.0),
    "elite_share": (0.05, 0.1, 0.2),
    "momentum": (0.0, 0.1, 0.3),
    "iterations": (2, 3, 4, 6),
}
POPLIN = {**CEM, "iterations": (2, 3, 4), "training": (1, 2)}
SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "random_shooting": {"hold": tuple(range(1, 13)), "iterations": (1,)},
    "cem": CEM,
    "icem": {
        "initial_std": (0.25, 0.5, 1.0),
        "elite_share": (0.05, 0.1, 0.2),
        "noise_exponent": (1.0, 2.0, 3.0),
        "carried_std": (0.0, 2.0),
        "momentum": (0.05, 0.1, 0.3),
        "kept_elites": (0.3, 0.5),
        "iterations": (2, 3, 4),
    },
    "mppi": {
        "noise_std": NOISE_STD,
        "noise_weight": (0.2, 0.4, 0.6, 1.0),
        "temperature": (0.03, 0.1, 0.3, 1.0),
        "iterations": (1, 2, 3, 5),
    },
    # Its standard deviation is that of tuned MPPI: the two are compared at the same marginal variance.
    "pddm": {
        "noise_weight": (0.2, 0.4, 0.6, 0.8),
        "reward_weighting": (1.0, 3.0, 10.0, 30.0),
        "iterations": (1, 2, 3, 5),
    },
    "cma_es": {
        "initial_std": (0.15, 0.25, 0.5, 1.0),
        "noise_exponent": (1.0, 2.0, 3.0),
        "iterations": (2, 3, 4, 6),
    },
    "poplin_a_init": POPLIN,
    "poplin_a_replan": POPLIN,
    "poplin_p": {**POPLIN, "initial_std": (0.7, 1.5, 3.0)},
    "pytorch_mppi": {
        "noise_std": NOISE_STD,
        "temperature": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        "iterations": (1, 2, 3, 5),
    },
    "pytorch_icem": {
        "initial_std": (0.25, 0.5, 1.0),
        "elite_share": (0.05, 0.1, 0.2),
        "noise_exponent": (1.0, 2.0, 3.0),
        "momentum": (0.05, 0.1, 0.3),
        "kept_elites": (0.3, 0.5),
        "iterations": (2, 3, 4),
    },
}


def draws(planner: str) -> list[dict[str, Any]]:
    """CONFIGURATIONS different points of a planner's space, the first of them that of its preset."""
    space = SPACES[planner]
    random = np.random.default_rng(0)
    points = [{name: preset_value(planner, name) for name in space}]
    while len(points) < CONFIGURATIONS:
        point = {name: choices[random.integers(len(choices))] for name, choices in space.items()}
        if point not in points:
            points.append(point)
    return points


def preset_value(planner: str, name: str) -> Any:
    """What the preset says of a parameter of a space."""
    values = {"training": 1, **preset_of(planner)}
    return (
        values["elites"] / values["population_size"] if name == "elite_share" and name not in values else values[name]
    )


def job(robot: str, planner: str, budget: int, seed: int, point: dict[str, Any]) -> Job:
    """The episode of a planner with the parameters of `point`."""
    parameters = dict(point)
    training = parameters.pop("training", 0)
    return Job(robot, planner, planner, budget, seed, HORIZON[robot], STEPS[robot], parameters, training)


def search(workers: Workers, robot: str, planner: str, fixed: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each configuration tried; `chosen` marks the best."""
    points = [{**point, **fixed} for point in draws(planner)]

    def returns(chosen: Sequence[int], episodes: Sequence[tuple[int, int]]) -> dict[int, list[float]]:
        jobs = [job(robot, planner, budget, seed, points[index]) for index in chosen for seed, budget in episodes]
        values = iter([row["return"] for row in workers.run([replace(one) for one in jobs])])
        return {index: [next(values) for _ in episodes] for index in chosen}

    found = returns(range(len(points)), FIRST)
    finalists = sorted(found, key=lambda index: -float(np.mean(found[index])))[:FINALISTS]
    for index, values in returns(finalists, SECOND).items():
        found[index] += values
    best = max(finalists, key=lambda index: float(np.mean(found[index])))
    return [
        {
            "robot": robot,
            "planner": planner,
            "parameters": json.dumps(points[index]),
            "returns": json.dumps(values),
            "chosen": int(index == best),
        }
        for index, values in found.items()
    ]


def tune(workers: Workers, robots: Sequence[str], planners: Sequence[str]) -> None:
    """Searches and writes RESULT; rows of other robots and planners stay."""
    for robot in robots:
        for planner in planners:
            fixed = {"noise_std": tuned(robot, "mppi")["noise_std"]} if planner == "pddm" else {}
            found = search(workers, robot, planner, fixed)
            kept = [row for row in _rows() if (row["robot"], row["planner"]) != (robot, planner)]
            with open(RESULT, "w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(found[0]))
                writer.writeheader()
                writer.writerows(sorted(kept + found, key=lambda row: (row["robot"], row["planner"])))
            best = next(row for row in found if row["chosen"])
            print(f"{robot} {planner}: {best['parameters']} {best['returns']}", flush=True)


def tuned(robot: str, planner: str) -> dict[str, Any]:
    """What the search found. Raises KeyError when it has not been done."""
    for row in _rows():
        if (row["robot"], row["planner"], row["chosen"]) == (robot, planner, "1"):
            return dict(json.loads(row["parameters"]))
    raise KeyError(f"{RESULT.name} has no {planner} on {robot}: run the benchmark with --tune")


def tuned_return(robot: str, planner: str) -> float:
    """Mean return of the chosen configuration over the tuning's seeds. Raises KeyError as `tuned`."""
    for row in _rows():
        if (row["robot"], row["planner"], row["chosen"]) == (robot, planner, "1"):
            return float(np.mean(json.loads(row["returns"])))
    raise KeyError(f"{RESULT.name} has no {planner} on {robot}: run the benchmark with --tune")


def _rows() -> list[dict[str, Any]]:
    if not RESULT.exists():
        return []
    with open(RESULT, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
