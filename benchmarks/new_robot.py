# SPDX-License-Identifier: Apache-2.0
"""Robots drawn at random, as MJCF and as URDF, that `./mbrl robot new` describes and that then learn their first task.

Each robot is a serial chain of two to four joints with oblique axes (`_random_robots.py`). One trial is random, then
the robot plans through what it has learned so far; everything is what `./mbrl robot new` wrote, nothing is chosen by
hand. Scores S = (R - R_random) / (R_oracle - R_random) of a trial's return R; R_random is that of the random trial, the
oracle plans on the true dynamics. With `--robot FILE` it is about that robot file instead.
"""

import argparse
import contextlib
import io
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _offline import LearningRun, oracle_trial, robot_file
from _random_robots import mjcf_text, random_robot, urdf_text
from common import bar, report

from mbrl_bringup import cli
from mbrl_core.config import load_preset
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import task_file_of, task_of_preset


def described(seed: int, folder: Path) -> tuple[str, str]:
    """Robot file and format of a random robot: even seeds are MJCF, odd ones URDF."""
    name, links = f"random{seed}", random_robot(seed)
    form = "mjcf" if seed % 2 == 0 else "urdf"
    origin = folder / f"given{seed}.{form}"
    origin.write_text(mjcf_text(links) if form == "mjcf" else urdf_text(links))
    words = ["robot", "new", name, f"--{form}", str(origin), "--folder", str(folder / name), "--force"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        if cli.main(words):
            raise RuntimeError(f"robot {seed}: {said.getvalue()}")
    return str(folder / name / f"{name}.yaml"), form


def run(job: tuple[str, str, int, int]) -> dict[str, Any]:
    """One robot: its returns by trial, and scores."""
    torch.set_num_threads(1)
    robot, form, seed, trials = job
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
    row = {"robot": file.stem, "format": form, "seed": seed, "joints": len(machine.joints), "kind": task.kind,
           "period": machine.spec.period, "steps": steps, "oracle": round(best, 2),
           "success_last_half": round(float(np.mean(task.state_is_success(half))), 3),
           **{f"return_{number}": round(value, 2) for number, value in enumerate(returns)},
           "score_first": round(float(scores[1]), 3), "score_last": round(float(scores[-1]), 3)}  # fmt: skip
    print(row, flush=True)
    return row


def main() -> int:
    """Returns the exit status: 0 when the bars hold."""
    parser = argparse.ArgumentParser(prog="./mbrl bench new_robot", description=__doc__.splitlines()[0])
    parser.add_argument("--robots", type=int, default=12)
    parser.add_argument("--first", type=int, default=0, help="seed of the first robot")
    parser.add_argument("--trials", type=int, default=5, help="the random one included")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--robot", action="append", default=[], help="a robot file instead; may be repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.robot:
            jobs = [(str(Path(file).absolute()), "own", 0, options.trials) for file in options.robot]
        else:
            seeds = range(options.first, options.first + options.robots)
            jobs = [(*described(seed, Path(folder)), seed, options.trials) for seed in seeds]
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            rows = pool.map(run, jobs, chunksize=1)
    last = np.array([row["score_last"] for row in rows])
    if options.robot:
        return 0
    bars = [
        bar("median score of the last trial", float(np.median(last)), at_least=0.9),
        bar("score of the last trial, the worst robot", float(last.min()), at_least=0.5),
    ]
    return report("new_robot", bars, rows)


if __name__ == "__main__":
    sys.exit(main())
