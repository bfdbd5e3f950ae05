# SPDX-License-Identifier: Apache-2.0
"""Imitation from 1, 5 and 20 demonstrations: behavioural cloning, noise injection, DAgger.

A cart-pole begins off balance on a rail of 1 m to either side, a reacher in a wide range of postures; episodes are of
50 steps. The expert is iLQR with a fixed number of iterations through the true dynamics. All methods have as many of
its labels, one a step: n demonstrations that were recorded to a bag and read back, n episodes in which its actions are
disturbed (DART), or n episodes of DAgger, the first the expert's own. Episode i begins in the same state with all. What
is judged is a new network fitted to all labels, in the same way for all methods; behavioural cloning has also the heads
of mixtures and chunks. Bars:

    dagger_S_*       S = (R - R_random) / (R_expert - R_random) from 20 episodes, on MuJoCo from unseen starts:
                     one-sided 95 % bootstrap bound over seeds, interquartile mean
    noise_less_bc_*  S of noise injection less S of behavioural cloning, mean over 1, 5 and 20: the same bound, paired

`--start-scale` widens the starts that policies are judged from beyond those of demonstrations. `--seeds`,
`--first-seed`: seeds 0.. are the bars'; what is not in a paper was chosen on seeds from 100 on.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _imitation_bags import recorded
from _imitation_plot import draw
from _imitation_problems import LIBRARY, PROBLEMS, problem
from _learning import interquartile_mean, lower_bound_of_interquartile_mean
from _twin import compile_library
from common import bar, report

from mbrl_core.messages import Plan, TimeStep
from mbrl_core.policies import Policy, make_policy
from mbrl_core.random_streams import stream_seed
from mbrl_core.trial import Controller, random_controller
from mbrl_policy.imitation.fit import FitConfig, fit_policy
from mbrl_policy.imitation.labelled import LabelledTraining, policy_rollout
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.imitation.teacher import Teacher
from mbrl_policy.training import TRAINERS
from mbrl_policy.training.predictive_teacher import planner_of

SIZES = (1, 5, 20)
UNSEEN = 40  # starts that policies are judged from
GATHERING = {"rollouts": 1, "gradient_steps": 200, "batch_size": 128, "evaluation": "none"}
FIT = {"gradient_steps": 5000, "batch_size": 128, "learning_rate": 3e-3}
HEADS = {"bc": "mlp", "bc_mixture": "mixture", "bc_chunks": "chunks"}
METHODS: dict[str, dict[str, Any]] = {"noise_injection": {}, "dagger": {"mixing": 1.0, "mixing_decay": 0.5}}
RECORDED = "recorded"


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with tempfile.TemporaryDirectory(prefix="mbrl_imitation_") as folder:
        os.environ[LIBRARY] = str(compile_library(Path(folder)))
        with ProcessPoolExecutor(options.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            scales = {name: pool.submit(reference_returns, name, options.start_scale) for name in options.problems}
            jobs = [
                pool.submit(learned, name, method, seed, options.start_scale)
                for seed in seeds
                for name in options.problems
                for method in (RECORDED, *METHODS)
            ]
            references = {name: found.result() for name, found in scales.items()}
            rows = [row for job in jobs for row in scored(job.result(), references)]
    figure = draw(rows, SIZES)
    return report("imitation", bars_of(rows), rows, {**figures_of(rows, references), "curves": figure.name})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds (default: 10)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--start-scale", type=float, default=1.0, help="spread of judged starts over demonstrations' (default: 1)"
    )
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS, help="(default: all)")
    options = parser.parse_args()
    if options.seeds < 2 or options.workers < 1 or options.first_seed < 0 or not options.start_scale > 0.0:
        parser.error(
            "expected --seeds at least 2, --workers at least 1, --first-seed at least 0, --start-scale above 0"
        )
    return options


def unseen_seeds() -> list[int]:
    """Of the starts that policies are judged from; no training has them."""
    return [stream_seed(0, 0, index, "unseen") for index in range(UNSEEN)]


def expert_of(name: str, start_scale: float) -> Controller:
    """The expert as a controller."""
    here = problem(name, start_scale)
    planner = planner_of(here.expert, here.robot.spec, here.model, here.robot.task, 0, here.objective)
    teacher = Teacher(planner)

    def answer(time_step: TimeStep) -> Plan:
        return Plan(teacher.advice(time_step).action[None])

    return answer


def reference_returns(name: str, start_scale: float) -> tuple[float, float]:
    """Mean returns of the expert and of random actions from the unseen starts."""
    judged = problem(name, start_scale).judged

    def mean_return(controller: Controller) -> float:
        return float(
            np.mean([judged.rollout_controller(controller, seed=seed).total_return for seed in unseen_seeds()])
        )

    return mean_return(expert_of(name, start_scale)), mean_return(random_controller(judged.spec, 0))


def learned(name: str, method: str, seed: int, start_scale: float) -> list[dict[str, Any]]:
    """Rows of one seed, one for each number of episodes (and head, where they were recorded)."""
    begin = time.process_time()
    gather: Callable[..., Mapping[int, Labels]] = shown if method == RECORDED else gathered
    labels = gather(name, method, seed, start_scale)
    heads = HEADS if method == RECORDED else {method: "mlp"}
    rows = []
    for label, kind in heads.items():
        for size in SIZES:
            policy, loss = fitted(name, kind, labels[size], seed, start_scale)
            judged = problem(name, start_scale).judged
            rollouts = [policy_rollout(judged, policy, unseen) for unseen in unseen_seeds()]
            rows.append(
                {
                    "problem": name, "method": label, "seed": seed, "demonstrations": size,
                    "labels": len(labels[size]), "return": float(np.mean([one.total_return for one in rollouts])),
                    "failures": sum(one.terminated for one in rollouts), "loss": round(loss, 6),
                    "start_scale": start_scale,
                }
            )  # fmt: skip
    rows[-1]["cpu_seconds"] = round(time.process_time() - begin, 1)
    return rows


def shown(name: str, method: str, seed: int, start_scale: float) -> Mapping[int, Labels]:
    """The expert's own episodes through a bag, from the starts that trainers use."""
    here, expert = problem(name, start_scale), expert_of(name, start_scale)
    rollouts = [
        here.robot.rollout_controller(expert, seed=stream_seed(seed, index, 0, "rollout")) for index in range(SIZES[-1])
    ]
    with tempfile.TemporaryDirectory(prefix="mbrl_demonstrations_") as folder:
        found = recorded(Path(folder) / "bag", rollouts, here.robot.spec, here.robot.task)
    if len(found) != len(rollouts):
        raise RuntimeError(f"{len(found)} demonstrations in the bag, expected {len(rollouts)}")
    parts = [Labels.of_rollout(rollout) for rollout in found]
    return {size: Labels.joined(parts[:size]) for size in SIZES}


def gathered(name: str, method: str, seed: int, start_scale: float) -> Mapping[int, Labels]:
    """What a trainer has gathered after as many episodes."""
    here = problem(name, start_scale)
    trainer = TRAINERS.get(method).implementation(
        TRAINERS.configure(method, {**GATHERING, **METHODS[method]}), here.robot, seed, model=here.model,
        planner=here.expert, objective=here.objective,
    )  # fmt: skip
    assert isinstance(trainer, LabelledTraining)
    labels = {}
    for episode in range(1, SIZES[-1] + 1):
        trainer.iterate()
        if episode in SIZES:
            labels[episode] = trainer.labels
    return labels


def fitted(name: str, kind: str, labels: Labels, seed: int, start_scale: float) -> tuple[Policy, float]:
    """A new policy of all labels, and the loss of the fit."""
    spec = problem(name, start_scale).robot.spec
    policy = make_policy(kind, {}, spec, stream_seed(seed, 0, 0, "policy"))
    seed = stream_seed(seed, 0, 0, "final_fit")
    return policy, fit_policy(policy, labels, FitConfig(**FIT), seed, lambda: True, fresh=True)


def scored(rows: list[dict[str, Any]], references: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """`rows` with S; told as they come."""
    for row in rows:
        expert, random = references[row["problem"]]
        row["S"] = (row["return"] - random) / (expert - random)
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        scores = ", ".join(f"{row['demonstrations']}: {row['S']:.3f}" for row in own)
        print(f"{own[0]['problem']} seed {own[0]['seed']} {method}: S {scores}", flush=True)
    return rows


def bars_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """See the module's text."""
    result = []
    for name in dict.fromkeys(row["problem"] for row in rows):
        dagger = scores(rows, name, "dagger")[:, -1]
        difference = (scores(rows, name, "noise_injection") - scores(rows, name, "bc")).mean(axis=1)
        result += [
            bar(f"dagger_S_{name}", lower_bound_of_interquartile_mean(list(dagger)), at_least=0.97),
            bar(f"noise_less_bc_{name}", lower_bound_of_interquartile_mean(list(difference)), at_least=0.0),
        ]
    for item in result:
        print(f"{item['name']}: {item['value']:.4g}, expected {item['bound']}")
    return result


def scores(rows: Sequence[Mapping[str, Any]], name: str, method: str) -> np.ndarray:
    """S [seeds, sizes]."""
    found = {
        (row["seed"], row["demonstrations"]): row["S"]
        for row in rows
        if (row["problem"], row["method"]) == (name, method)
    }
    return np.array([[found[seed, size] for size in SIZES] for seed in sorted({seed for seed, _ in found})])


def figures_of(rows: Sequence[Mapping[str, Any]], references: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Interquartile means of S by problem, method and demonstrations, and the returns that S counts from."""
    figures: dict[str, Any] = {}
    for name, (expert, random) in references.items():
        figures[name] = {"expert_return": round(expert, 3), "random_return": round(random, 3)}
        for method in dict.fromkeys(row["method"] for row in rows):
            middle = interquartile_mean(scores(rows, name, method).T)
            figures[name][method] = {
                str(size): round(float(value), 4) for size, value in zip(SIZES, middle, strict=True)
            }
    return figures


if __name__ == "__main__":
    sys.exit(main())
