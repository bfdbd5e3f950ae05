# SPDX-License-Identifier: Apache-2.0
"""PLATO against DAgger: how often the pole falls or the rail ends while a policy learns, at equal final score.

The cart-pole begins off balance, away from the middle of a rail of 1 m to either side, with speed. Both algorithms
imitate the same planner (iLQR through the true dynamics), fit the same network in the same way to the labels of as many
episodes from the same starts, and try it in the model, which breaks nothing. An iteration is one episode of 2 s; the
first is the teacher's own for both. DAgger's mixing schedule is that of its paper, beta_i = 0.5^i, and nothing of it is
changed by what is seen here. Bars:

    dagger_failures            of all training episodes of all seeds: enough of them to compare rates
    rate_ratio_upper_bound     PLATO's failures an episode over DAgger's: the larger of two one-sided 95 % bounds, the
                               exact one of two Poisson rates given their sum (binomial, Clopper and Pearson 1934),
                               and the bootstrap over seeds, which does not take episodes of a seed for independent
    final_S_difference         PLATO less DAgger, of the policies that training gives: one-sided 95 % bootstrap bound
                               over seeds, paired. S = (R - R_random) / (R_oracle - R_random) on MuJoCo from unseen
                               starts; the oracle is the planner, unhurried

`--seeds`, `--first-seed`: seeds 0.. are the bar's; what is not in a paper was chosen on seeds from 100 on.
"""

import argparse
import dataclasses
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _balance import CartpoleBalance, EndlessBalance
from _learning import RESAMPLES, interquartile_mean
from _twin import Twin, compile_library
from _twin_model import TwinModel
from common import bar, report

from mbrl_core.messages import Plan
from mbrl_core.random_streams import stream_seed
from mbrl_core.robot_file import Robot, StartDistribution, load_robot
from mbrl_core.trial import Controller, random_controller
from mbrl_planner.objective import ModelObjective
from mbrl_policy.imitation.teacher import Teacher
from mbrl_policy.training import TRAINERS, SimulatedRobot
from mbrl_policy.training.predictive_teacher import planner_of

ROBOT = Path(__file__).resolve().parents[1] / "config" / "robots" / "cartpole.yaml"
LIBRARY = "MBRL_BENCH_TWIN"  # environment variable that tells worker processes where the compiled twin is
STEPS = 50
ITERATIONS = 12
UNSEEN = 40  # starts that the final policies are judged from
START = StartDistribution((0.0, math.pi), (0.25, 0.1), (0.0, 0.0), (0.3, 0.4))
TEACHER = {"kind": "ilqr", "horizon": 20, "iterations": 1, "restarts": 0, "population_size": 2}
ORACLE = {**TEACHER, "horizon": 25, "iterations": 10}
COMMON = {
    "rollouts": 1, "gradient_steps": 300, "batch_size": 128, "evaluation": "model", "evaluation_rollouts": 20,
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "dagger": {"mixing": 1.0, "mixing_decay": 0.5},
    "plato": {"divergence_weight": 1.0},
}


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with tempfile.TemporaryDirectory(prefix="mbrl_plato_") as folder:
        os.environ[LIBRARY] = str(compile_library(Path(folder)))
        with ProcessPoolExecutor(options.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            scale = pool.submit(reference_returns)
            jobs = [(method, seed) for seed in seeds for method in METHODS]
            found = [pool.submit(trained, *job) for job in jobs]
            oracle, random = scale.result()
            rows = [row for job in found for row in scored(job.result(), oracle, random)]
    return report("plato", bars_of(rows), rows, figures_of(rows, oracle, random))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30, help="number of seeds (default: 30)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    if options.seeds < 2 or options.workers < 1 or options.first_seed < 0:
        parser.error("expected --seeds at least 2, --workers at least 1, --first-seed at least 0")
    return options


@lru_cache
def world() -> tuple[SimulatedRobot, TwinModel]:
    """Robot and true dynamics, once a process."""
    robot: Robot = dataclasses.replace(load_robot(ROBOT), start=START)
    library = os.environ.get(LIBRARY)
    model = TwinModel(Twin(robot, Path(library) if library else None))
    return SimulatedRobot(robot, CartpoleBalance(), STEPS), model


def unseen_seeds() -> list[int]:
    """Of the starts that policies are judged from; no training has them."""
    return [stream_seed(0, 0, index, "unseen") for index in range(UNSEEN)]


def reference_returns() -> tuple[float, float]:
    """Mean returns of the unhurried planner and of random actions from the unseen starts."""
    robot, model = world()
    planner = planner_of(ORACLE, robot.spec, model, EndlessBalance(), 0)
    teacher = Teacher(planner)

    def planned(time_step: Any) -> Plan:
        return Plan(teacher.advice(time_step).action[None])

    def mean_return(controller: Controller) -> float:
        return float(np.mean([robot.rollout_controller(controller, seed=seed).total_return for seed in unseen_seeds()]))

    return mean_return(planned), mean_return(random_controller(robot.spec, 0))


def trained(method: str, seed: int) -> list[dict[str, Any]]:
    """One training: a row for each iteration, the last with the mean return of the policy that came out."""
    robot, model = world()
    settings: Mapping[str, Any] = {**COMMON, **METHODS[method]}
    trainer = TRAINERS.get(method).implementation(
        TRAINERS.configure(method, dict(settings)), robot, seed, model=model, planner=TEACHER,
        objective=ModelObjective(model, EndlessBalance(), 1, "mean"),
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    begin = time.process_time()
    for _ in range(ITERATIONS):
        progress = trainer.iterate()
        rows.append(
            {
                "method": method, "seed": seed, "iteration": progress.iteration, "episodes": COMMON["rollouts"],
                "failures": int(progress.information["failures"]), "labels": int(progress.information["labels"]),
                "model_return": round(progress.mean_return, 3), "loss": round(progress.loss, 5),
                "divergence": round(progress.information.get("divergence", 0.0), 4),
            }
        )  # fmt: skip
    policy = trainer.policy()
    judged = [robot.rollout(policy, seed=unseen) for unseen in unseen_seeds()]
    rows[-1]["final_return"] = float(np.mean([rollout.total_return for rollout in judged]))
    rows[-1]["final_failures"] = sum(rollout.terminated for rollout in judged)
    rows[-1]["cpu_seconds"] = round(time.process_time() - begin, 1)
    return rows


def scored(rows: list[dict[str, Any]], oracle: float, random: float) -> list[dict[str, Any]]:
    """`rows` of one training with the final policy's S; told as they come."""
    last = rows[-1]
    last["final_S"] = (last["final_return"] - random) / (oracle - random)
    failures = [row["failures"] for row in rows]
    print(f"seed {last['seed']} {last['method']}: failures {failures}, S {last['final_S']:.3f}", flush=True)
    return rows


def bars_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """See the module's text."""
    plato, dagger = (by_seed(rows, method, "failures") for method in ("plato", "dagger"))
    difference = final_scores(rows, "plato") - final_scores(rows, "dagger")
    bound = max(exact_upper_bound(int(plato.sum()), int(dagger.sum())), bootstrap_upper_bound(plato, dagger))
    result = [
        bar("dagger_failures", dagger.sum(), at_least=30.0),
        bar("rate_ratio_upper_bound", bound, at_most=0.5),
        bar("final_S_difference_lower_bound", lower_bound(difference), at_least=-0.05),
    ]
    for item in result:
        print(f"{item['name']}: {item['value']:.4g}, expected {item['bound']}")
    return result


def figures_of(rows: Sequence[Mapping[str, Any]], oracle: float, random: float) -> dict[str, Any]:
    """What the bars come from."""
    figures: dict[str, Any] = {"oracle_return": round(oracle, 3), "random_return": round(random, 3)}
    plato, dagger = (by_seed(rows, method, "failures") for method in ("plato", "dagger"))
    figures["exact_bound"] = round(exact_upper_bound(int(plato.sum()), int(dagger.sum())), 4)
    figures["bootstrap_bound"] = round(bootstrap_upper_bound(plato, dagger), 4)
    for method in METHODS:
        figures[method] = {
            "failures": int(by_seed(rows, method, "failures").sum()),
            "episodes": int(by_seed(rows, method, "episodes").sum()),
            "final_S": round(float(interquartile_mean(final_scores(rows, method))), 4),
        }
    return figures


def by_seed(rows: Sequence[Mapping[str, Any]], method: str, column: str) -> np.ndarray:
    """Sums over iterations, in order of the seeds."""
    own = [row for row in rows if row["method"] == method]
    return np.array(
        [sum(row[column] for row in own if row["seed"] == seed) for seed in sorted({r["seed"] for r in own})]
    )


def final_scores(rows: Sequence[Mapping[str, Any]], method: str) -> np.ndarray:
    """S of the final policies, in order of the seeds."""
    own = sorted((row["seed"], row["final_S"]) for row in rows if row["method"] == method and "final_S" in row)
    return np.array([score for _, score in own])


def lower_bound(values: np.ndarray) -> float:
    """One-sided 95 % bootstrap bound of the interquartile mean over seeds."""
    random = np.random.default_rng(0)
    samples = values[random.integers(0, len(values), (RESAMPLES, len(values)))]
    return float(np.percentile(interquartile_mean(samples), 5.0))


def bootstrap_upper_bound(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of sum(ours) / sum(theirs) over seeds, paired; infinite where a resample has none of theirs."""
    index = np.random.default_rng(1).integers(0, len(ours), (RESAMPLES, len(ours)))
    totals = theirs[index].sum(axis=1)
    ratios = np.where(totals > 0, ours[index].sum(axis=1) / np.maximum(totals, 1), np.inf)
    return float(np.percentile(ratios, 95.0))


def exact_upper_bound(ours: int, theirs: int) -> float:
    """One-sided 95 % upper bound of the ratio of two Poisson rates of equal exposure: given their sum, ours is
    binomial with share ratio / (1 + ratio).
    """
    total = ours + theirs
    if theirs == 0:
        return math.inf
    low, high = 0.0, 1.0
    for _ in range(60):
        share = 0.5 * (low + high)
        terms = [
            math.exp(
                math.lgamma(total + 1) - math.lgamma(index + 1) - math.lgamma(total - index + 1)
                + index * math.log(share) + (total - index) * math.log1p(-share)
            )
            for index in range(ours + 1)
        ]  # fmt: skip
        low, high = (share, high) if sum(terms) > 0.05 else (low, share)
    return high / (1.0 - high)


if __name__ == "__main__":
    sys.exit(main())
