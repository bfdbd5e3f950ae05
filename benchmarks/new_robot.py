# SPDX-License-Identifier: Apache-2.0
"""Robots drawn at random, as MJCF and as URDF, that `./mbrl robot new` describes and that then learn their first task.

Each robot is a serial chain of two to four joints with oblique axes, or a cart with a pole that stands on it, which
nothing drives (`_random_robots.py`). One trial is random, then the robot plans through what it has learned so far;
everything is what `./mbrl robot new` wrote, and as many trials as it says; nothing is chosen by hand. Scores
S = (R - R_random) / (R_oracle - R_random) of a trial's return R; R_random is that of the random trial, the oracle plans
on the true dynamics. With `--robot FILE` it is about that robot file instead.
"""

import argparse
import contextlib
import io
import multiprocessing
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _offline import LearningRun, oracle_trial, robot_file
from _random_robots import mjcf_text, random_balancer, random_robot, urdf_text
from common import bar, report

from mbrl_bringup import cli
from mbrl_core.config import load_preset
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import task_file_of, task_of_preset

FAMILIES = {"chain": random_robot, "balancer": random_balancer}


def described(family: str, seed: int, folder: Path) -> tuple[str, str, int]:
    """Robot file, format and number of trials of a random robot: even seeds are MJCF, odd ones URDF."""
    name, links = f"{family}{seed}", FAMILIES[family](seed)
    form = "mjcf" if seed % 2 == 0 else "urdf"
    origin = folder / f"given_{name}.{form}"
    origin.write_text(mjcf_text(links) if form == "mjcf" else urdf_text(links))
    words = ["robot", "new", name, f"--{form}", str(origin), "--folder", str(folder / name), "--force"]
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.redirect_stderr(io.StringIO()) as said:
        if cli.main(words):
            raise RuntimeError(f"{name}: {said.getvalue()}")
    trials = re.search(r"trials:=(\d+)", told.getvalue())
    assert trials is not None
    return str(folder / name / f"{name}.yaml"), form, int(trials[1])


def run(job: tuple[str, str, int, int, str]) -> dict[str, Any]:
    """One robot: its returns by trial, and scores."""
    torch.set_num_threads(1)
    robot, form, trials, seed, family = job
    file = robot_file(robot)
    machine = load_robot(file)
    task = task_of_preset(load_preset(task_file_of(file, machine.task), "task"))
    learning = LearningRun(robot, seed, {})
    steps = machine.episode_steps
    done = [learning.trial(task, steps) for _ in range(trials)]
    returns = [trial.total_return for trial in done]
    best = oracle_trial(robot, task, steps, trials, seed).total_return
    scores = (np.array(returns) - returns[0]) / (best - returns[0])
    half = done[-1].state[steps // 2 :]
    row = {"robot": file.stem, "family": family, "format": form, "seed": seed, "joints": len(machine.joints),
           "kind": task.kind,
           "period": machine.spec.period, "steps": steps, "oracle": round(best, 2),
           "success_last_half": round(float(np.mean(task.state_is_success(half))), 3),
           **{f"return_{number}": round(value, 2) for number, value in enumerate(returns)},
           "score_first": round(float(scores[1]), 3), "score_last": round(float(scores[-1]), 3),
           "score_last_three": round(float(np.median(scores[-3:])), 3)}  # fmt: skip
    print(row, flush=True)
    return row


def main() -> int:
    """Returns the exit status: 0 when the bars hold."""
    parser = argparse.ArgumentParser(prog="./mbrl bench new_robot", description=__doc__.splitlines()[0])
    parser.add_argument("--robots", type=int, default=12, help="of each family (default: 12)")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES, help="(default: both)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first robots (default: 0)")
    parser.add_argument("--trials", type=int, default=0, help="the random one included (default: what is told)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--robot", action="append", default=[], help="a robot file instead; may be repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.robot:
            jobs = [(str(Path(file).absolute()), "own", options.trials or 8, 0, "own") for file in options.robot]
        else:
            jobs = []
            for family in options.families:
                for seed in range(options.first, options.first + options.robots):
                    file, form, trials = described(family, seed, Path(folder))
                    jobs.append((file, form, options.trials or trials, seed, family))
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            rows = pool.map(run, jobs, chunksize=1)
    if options.robot:
        return 0
    bars = []
    for family in options.families:
        scores = np.array([row["score_last_three"] for row in rows if row["family"] == family])
        bars += [
            bar(f"{family}: median score, the median of the last three trials", float(np.median(scores)), at_least=0.9),
            bar(f"{family}: the worst robot's", float(scores.min()), at_least=0.5),
        ]
    return report("new_robot", bars, rows)


if __name__ == "__main__":
    sys.exit(main())
