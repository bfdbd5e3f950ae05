# SPDX-License-Identifier: Apache-2.0
"""Guided policy search: the reacher from eight starts all over its workspace, and the cart-pole's swing-up.

Rollouts are of the robots' MuJoCo simulation in process, as in lockstep. Local dynamics are the slopes of an ensemble
that is fitted to these rollouts alone. Nobody is told the true ones, except the teacher: iLQR through them at every
step gives the first rollouts, and is gone afterwards. Every coupling is trained with the same settings; the bars are
those of BADMM.

    local       S of each start condition's best controller, without noise, on its own start
    network     S of the one network on the training starts, as a share of the controllers'
    unseen      S of the network on 50 other starts, the same for all seeds
    divergence  largest E KL(p || reference) of a step, in epsilons, by sampling under the local dynamics

S = (R - R_random) / (R_oracle - R_random), R summed over starts: the oracle is an unhurried planner on the true
dynamics from the same starts, the zero five episodes of random actions from each. Interquartile means over seeds and
their one-sided 95 % bootstrap bounds.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from _learning import interquartile_mean, lower_bound_of_interquartile_mean
from _offline import CONFIG
from _twin import CountedTwin, Twin, TwinObjective
from common import bar, report

from mbrl_bringup.ledger_trials import unhurried_settings
from mbrl_core.config import from_mapping, load_preset
from mbrl_core.policies import Policy
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import task_of_preset
from mbrl_core.trial import Controller, random_controller
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_planner.controller import PredictiveController
from mbrl_planner.registry import make_planner
from mbrl_policy.kl_step import KlStep
from mbrl_policy.linear_gaussian import LinearGaussianController
from mbrl_policy.local_problem import LocalProblem
from mbrl_policy.training import SimulatedRobot, condition
from mbrl_policy.training.gps import GuidedPolicySearch
from mbrl_policy.training.gps_config import COUPLINGS, GpsConfig
from mbrl_policy.training.predictive_teacher import predictive_control

COUPLING = "badmm"  # whose bars count
UNSEEN, RANDOM_EPISODES, UNSEEN_SEED = 50, 5, 1_000_000
MOST_ROLLOUTS = 200  # on the reacher
LONGEST = 0.5  # ms
SAMPLES = 4000  # trajectories that a step's divergence is measured by
ORACLE_HORIZON = 25
TEACHER = {"kind": "ilqr", "horizon": 25, "iterations": 1, "restarts": 0, "particles": 1, "propagation": "mean"}
# Where the reacher's starts are drawn from, rad: its own are all within 0.2 of straight ahead.
START_STD = {"reacher": (1.0, 0.8)}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "reacher": {
        "iterations": 6, "conditions": 8, "rollouts": 2, "teacher_iterations": 1, "dynamics": "model", "epsilon": 1.0,
        "most_epsilon": 20.0, "memory": 200,
    },
    "cartpole": {
        "iterations": 6, "conditions": 8, "rollouts": 3, "teacher_iterations": 1, "dynamics": "model", "epsilon": 0.2,
        "most_epsilon": 2.0, "memory": 400, "start_std": [0.1] * 4, "imagined": 20, "supervised_steps": 6000,
    },
}  # fmt: skip
# Swinging up and holding in one function of the state takes more than the reacher's.
POLICIES: Mapping[str, Mapping[str, Any]] = {
    "reacher": {"kind": "mlp", "squash": False, "covariance": "full"},
    "cartpole": {"kind": "mlp", "squash": False, "covariance": "full", "hidden_layers": 3, "hidden_units": 128},
}


class Taught(GuidedPolicySearch):
    """The teacher plans through the true dynamics, which the trainer's own model does not know."""

    known: DynamicsModel | None = None

    def teacher(self, seed: int) -> Controller:
        """See GuidedPolicySearch."""
        assert self.known is not None
        return predictive_control(TEACHER, self.known, self.robot, self.config.teacher_reserve, seed)


class Divergences:
    """Measures every trajectory step by sampling, in epsilons."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._step = condition.kl_constrained_step

    def __enter__(self) -> "Divergences":
        condition.kl_constrained_step = self._measured
        return self

    def __exit__(self, *_: object) -> None:
        condition.kl_constrained_step = self._step

    def _measured(
        self, problem: LocalProblem, reference: LinearGaussianController, epsilon: float, *rest: Any
    ) -> KlStep:
        step = self._step(problem, reference, epsilon, *rest)
        random, controller = np.random.default_rng(0), step.controller
        starts = random.multivariate_normal(problem.mean, problem.covariance, SAMPLES)
        states, actions = problem.dynamics.simulate(
            starts, controller.gains, controller.offsets, controller.covariances, random
        )
        # The expectation over actions is exact; over states it is by samples.
        apart = (controller.means(states[:, :-1]) - reference.means(states[:, :-1]))[..., None]
        distance = (np.swapaxes(apart, 2, 3) @ reference.precisions @ apart)[..., 0, 0].mean(axis=0)
        noise = np.einsum("hij,hji->h", reference.precisions, controller.covariances) - actions.shape[-1]
        volume = reference.log_determinants - controller.log_determinants
        self.largest = max(self.largest, float(0.5 * (distance + noise + volume).sum()) / epsilon)
        return step


def training_robot(name: str) -> SimulatedRobot:
    """The robot with its own task, and with the starts of this benchmark."""
    robot = load_robot(CONFIG / "robots" / f"{name}.yaml")
    if name in START_STD:
        robot = dataclasses.replace(robot, start=dataclasses.replace(robot.start, position_std=START_STD[name]))
    return SimulatedRobot(robot, task_of_preset(load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task")))


def planning(robot: SimulatedRobot, twin: Twin, settings: Mapping[str, Any], seed: int) -> Controller:
    """Model predictive control through the true dynamics."""
    objective = TwinObjective(CountedTwin(twin), robot.task)
    controller = PredictiveController(make_planner(settings, robot.spec, objective, seed))
    return lambda time_step: controller.answer(time_step).plan


def references(job: tuple[str, list[list[float]]]) -> list[tuple[float, float]]:
    """Returns of the oracle and of random actions from each start."""
    torch.set_num_threads(1)
    robot, starts = training_robot(job[0]), job[1]
    twin = Twin(robot.robot)
    found = []
    for index, start in enumerate(starts):
        oracle = planning(robot, twin, unhurried_settings(ORACLE_HORIZON), index)
        best = robot.rollout_controller(oracle, np.array(start), seed=index).total_return
        drawn = [
            robot.rollout_controller(random_controller(robot.spec, seed), np.array(start), seed=seed).total_return
            for seed in range(RANDOM_EPISODES)
        ]
        found.append((best, float(np.mean(drawn))))
    return found


def total(robot: SimulatedRobot, policies: Sequence[Policy], starts: Sequence[Array]) -> float:
    """Sum of returns, policy by policy and start by start, without noise."""
    return sum(robot.rollout(policy, start).total_return for policy, start in zip(policies, starts, strict=True))


def train(job: tuple[str, str, int]) -> dict[str, Any]:
    """One run: what the best controllers and the best network return."""
    torch.set_num_threads(1)
    name, coupling, seed = job
    robot, begin = training_robot(name), time.process_time()
    sources = {"planner": TEACHER, "policy": POLICIES[name], "model": make_model("ensemble", {}, robot.spec, seed)}
    config = from_mapping(GpsConfig, {**SETTINGS[name], "coupling": coupling})
    trainer = Taught(config, robot, seed, **sources)
    file = str(CONFIG / "robots" / f"{name}.yaml")
    trainer.known = make_model("mujoco", {"robot_file": file, "threads": 1}, robot.spec, 0)
    with Divergences() as divergences:
        for _ in range(config.iterations):
            progress = trainer.iterate()
            told = {name: round(value, 2) for name, value in progress.information.items()}
            print(f"{name} {coupling} seed {seed}: iteration {progress.iteration}, {progress.mean_return:.2f}", told,
                  flush=True)  # fmt: skip
    policy, starts = trainer.policy(), [each.start for each in trainer.conditions]
    unseen = [robot.drawn_start(UNSEEN_SEED + index) for index in range(UNSEEN)]
    returns = {
        "local_return": total(robot, trainer.local_policies(), starts),
        "network_return": total(robot, [policy] * len(starts), starts),
        "unseen_return": total(robot, [policy] * UNSEEN, unseen),
    }
    print(f"{name} {coupling} seed {seed}:", {name: round(value, 1) for name, value in returns.items()}, flush=True)
    return {
        "robot": name,
        "coupling": coupling,
        "seed": seed,
        "rollouts": trainer.rollouts,
        **returns,
        "largest_divergence": divergences.largest,
        "inference_p99_ms": inference(policy, np.array(unseen)),
        "cpu_seconds": time.process_time() - begin,
        "starts": [start.tolist() for start in starts],
    }


def inference(policy: Policy, states: Array, calls: int = 5000) -> float:
    """p99 of one action of the network, ms."""
    fast, seconds = policy.fast(), np.empty(calls)
    for index in range(-200, calls):
        state, begin = states[index % len(states)], time.perf_counter()
        fast.action(state, 0)
        seconds[index] = time.perf_counter() - begin
    return 1e3 * float(np.percentile(seconds, 99.0))


def scored(rows: list[dict[str, Any]], pool: ProcessPoolExecutor) -> None:
    """Adds scores to `rows`, and takes their starts away."""
    for name in dict.fromkeys(row["robot"] for row in rows):
        own = [row for row in rows if row["robot"] == name]
        robot = training_robot(name)
        unseen = [robot.drawn_start(UNSEEN_SEED + index).tolist() for index in range(UNSEEN)]
        # Seeds have the same starts under every coupling.
        groups = {row["seed"]: row["starts"] for row in own}
        parts = [*groups.values(), *(unseen[first : first + 10] for first in range(0, UNSEEN, 10))]
        found = [np.sum(each, axis=0) for each in pool.map(references, [(name, part) for part in parts])]
        known = dict(zip(groups, found[: len(groups)], strict=True))
        elsewhere = np.sum(found[len(groups) :], axis=0)
        for row in own:
            best, zero = known[row["seed"]]
            row["local_score"] = (row["local_return"] - zero) / (best - zero)
            row["network_score"] = (row["network_return"] - zero) / (best - zero)
            row["network_of_local"] = row["network_score"] / row["local_score"]
            row["unseen_score"] = (row["unseen_return"] - elsewhere[1]) / (elsewhere[0] - elsewhere[1])
            row["oracle_return"], row["random_return"] = float(best), float(zero)
            del row["starts"]


def bars_of(name: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of one robot, from the runs that count."""

    def bound(column: str) -> float:
        return lower_bound_of_interquartile_mean([row[column] for row in rows])

    found = [
        bar(f"{name}_local_score_lower_bound", bound("local_score"), at_least=0.95),
        bar(f"{name}_network_of_local_lower_bound", bound("network_of_local"), at_least=0.95),
        bar(f"{name}_unseen_score_lower_bound", bound("unseen_score"), at_least=0.90),
        bar(f"{name}_largest_divergence", max(row["largest_divergence"] for row in rows), at_most=1.1),
        bar(f"{name}_inference_p99_ms", max(row["inference_p99_ms"] for row in rows), at_most=LONGEST),
    ]
    if name == "reacher":
        found.append(bar(f"{name}_rollouts", max(row["rollouts"] for row in rows), at_most=MOST_ROLLOUTS))
    return found


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each robot and coupling (default: 5)")
    parser.add_argument(
        "--other-seeds", type=int, default=2, help="runs of the couplings that no bar is about (default: 2)"
    )
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--robots", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), help="default: both")
    parser.add_argument("--couplings", nargs="+", default=list(COUPLINGS), choices=COUPLINGS, help="default: all")
    options = parser.parse_args()
    if min(options.seeds, options.other_seeds, options.workers) < 1 or options.first_seed < 0:
        parser.error("--seeds, --other-seeds and --workers: expected at least 1, --first-seed at least 0")
    counts = {kind: options.seeds if kind == COUPLING else options.other_seeds for kind in options.couplings}
    jobs = [
        (name, kind, options.first_seed + index)
        for name in options.robots
        for kind, count in counts.items()
        for index in range(count)
    ]
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(train, jobs))
        scored(rows, pool)
    bars: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    for name in options.robots:
        for kind in options.couplings:
            own = [row for row in rows if (row["robot"], row["coupling"]) == (name, kind)]
            columns = ("local_score", "network_of_local", "unseen_score")
            told = {column: round(float(interquartile_mean(np.array([row[column] for row in own]))), 4)
                    for column in columns}  # fmt: skip
            figures[f"{name}_{kind}"] = told
            print(f"{name} {kind}: {told}", flush=True)
            bars += bars_of(name, own) if kind == COUPLING else []
    for item in bars:
        print(f"{item['name']}: {item['value']:.4g}, expected {item['bound']}")
    return report("gps", bars, rows, figures)


if __name__ == "__main__":
    sys.exit(main())
