# SPDX-License-Identifier: Apache-2.0
"""Five minutes of control at 50 Hz in real time while the learner trains: the cart-pole and the reacher.

The whole system runs as a user starts it, on the two cores that it has: simulation, control clock, planner through a
learned ensemble, learner, experiment. The first trial is random; all others are controlled by the planner while the
learner goes on training without a pause (`refit: once`: no trial waits for it). Of those the bars are:

    age        of the executed rows, in steps: how old the state was that they answer; 99th percentile
    fallback   ticks that another than the selected controller served, and ticks that the clock left out, percent
    S          (R - R_random) / (R_oracle - R_random) over the judged trials, the last half of them: R is the return in
               real time, R_oracle that of an unhurried planner through the true dynamics, from the same states, for the
               same goals and at the same rate, R_random that of random actions. Interquartile mean, and its one-sided
               95 % bootstrap bound over trials.
"""

import argparse
import dataclasses
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _learning import interquartile_mean, lower_bound_of_interquartile_mean
from _twin import CountedTwin, Twin, TwinObjective
from common import bar, report

from mbrl_bringup.batch import RunRequest, execute
from mbrl_bringup.ledger_trials import random_return, read_inputs, return_through, unhurried_settings
from mbrl_bringup.run_files import Run
from mbrl_core.robot_file import load_robot

ROOT = Path(__file__).resolve().parents[1]
ROBOTS = {"cartpole_50hz": 0, "reacher": 250}  # steps of a trial; 0 is what the robot file says
RANDOM_EPISODES = 5  # whose mean return is the zero of scores


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mbrl_realtime_") as temporary:
        for robot in options.robots:
            run = execute(request(options, robot, Path(options.keep or temporary)))
            trials = learned_trials(run)
            bars += realtime_bars(robot, run, trials)
            scored = {row["trial"]: row for row in judge(run, options.judged)} if options.judged else {}
            rows += [{"robot": robot, **trial, **scored.get(trial["trial"], {})} for trial in trials]
            bars += score_bars(robot, [row["S"] for row in scored.values()])
    for item in bars:
        print(f"{item['name']}: {item['value']:.4g}, expected {item['bound']}")
    return report("realtime", bars, rows)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of learned control of each robot (default: 5)")
    parser.add_argument("--robots", nargs="+", default=list(ROBOTS), choices=list(ROBOTS), help="default: both")
    parser.add_argument("--planner", default="icem", help="planner preset (default: icem)")
    parser.add_argument("--parameters", default="", help="parameter file, as `./mbrl tune planner` writes it")
    parser.add_argument("--judged", type=int, default=12, help="trials that are scored, of the last half (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="of start states, goals and all random streams")
    parser.add_argument("--keep", default="", help="folder to keep the runs in (default: thrown away)")
    options = parser.parse_args()
    if options.minutes <= 0.0 or options.judged < 0 or options.seed < 0:
        parser.error("expected --minutes above 0, --judged and --seed at least 0")
    return options


def request(options: argparse.Namespace, robot: str, folder: Path) -> RunRequest:
    """One run of `robot`, one random trial and learned ones for so many minutes."""
    content = load_robot(ROOT / "config" / "robots" / f"{robot}.yaml")
    steps = ROBOTS[robot] or content.episode_steps
    trials = 1 + math.ceil(60.0 * options.minutes / (steps * content.spec.period))
    parameters: dict[str, dict[str, Any]] = {"experiment": {"episode_steps": steps, "refit": "once"}}
    if options.parameters:
        parameters["planner"] = tuned(Path(options.parameters))
    return RunRequest(
        folder / f"{robot}_seed_{options.seed}",
        {
            "robot": robot,
            "mode": "realtime",
            "record": "false",
            "planner": options.planner,
            "trials": str(trials),
            "seed": str(options.seed),
        },
        parameters,
        timeout=120.0 * options.minutes + 300.0,
    )


def tuned(path: Path) -> dict[str, Any]:
    """The parameters that a file gives the node `planner`."""
    import yaml

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(content["/**/planner"]["ros__parameters"])


def learned_trials(run: Run) -> list[dict[str, Any]]:
    """What metrics.csv says of the learned trials."""
    columns = (
        "trial", "return", "steps", "fallback_ticks", "lost_time_steps", "missed_deadlines", "age_p99",
        "solve_time_p50", "solve_time_p99", "model_version",
    )  # fmt: skip
    return [{name: row[name] for name in columns} for row in run.metrics if row["learned"]]


def realtime_bars(robot: str, run: Run, trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Age, fallback, and whether the learner did train all the time."""
    learned = np.isin(run.steps["trial"], [trial["trial"] for trial in trials]) & (run.steps["step"] > 0)
    ages = run.steps["row_age"][learned & ~run.steps["fallback"].astype(bool)]
    ticks = sum(trial["steps"] for trial in trials)
    fallback = sum(trial["fallback_ticks"] for trial in trials)
    missed = ticks - int(learned.sum())
    print(f"{robot}: {ticks} ticks, {fallback} fallback, {missed} missed, {trials[-1]['model_version']} models")
    return [
        bar(f"{robot}_p99_age", float(np.percentile(ages, 99.0)), at_most=2.0),
        bar(f"{robot}_fallback_percent", 100.0 * (fallback + missed) / ticks, at_most=0.2),
        bar(f"{robot}_models_learned", trials[-1]["model_version"] - trials[0]["model_version"], at_least=1.0),
    ]


def judge(run: Run, count: int) -> list[dict[str, float]]:
    """Scores of `count` trials, evenly spread over the last half of the learned ones."""
    learned = [{**row, "evaluation": 1} for row in run.metrics if row["learned"]]
    half = learned[len(learned) // 2 :]
    chosen = sorted({round(float(index)) for index in np.linspace(0, len(half) - 1, count)})
    judged = dataclasses.replace(run, metrics=[half[index] for index in chosen])
    inputs = read_inputs(judged)
    twin = Twin(inputs.robot)  # a hundred times as fast as MuJoCo, with which it is compared as it is made
    rows = []
    for metrics, (episode, realised) in zip(judged.metrics, inputs.episodes, strict=True):
        objective = TwinObjective(CountedTwin(twin), episode.task)
        oracle = return_through(inputs.robot, episode, unhurried_settings(inputs.horizon), objective)
        # Streams of random actions that no trial of the run has.
        numbers = range(1_000_000, 1_000_000 + RANDOM_EPISODES)
        others = [dataclasses.replace(episode, number=number) for number in numbers]
        random = float(np.mean([random_return(inputs.robot, other) for other in others]))
        score = (realised - random) / (oracle - random)
        name = f"{run.directory.name} trial {metrics['trial']}"
        print(f"{name}: real {realised:.2f}, oracle {oracle:.2f}, random {random:.2f}, S {score:.3f}", flush=True)
        rows.append({"trial": metrics["trial"], "oracle": oracle, "random": random, "S": score})
    return rows


def score_bars(robot: str, scores: Sequence[float]) -> list[dict[str, Any]]:
    """S and its lower bound; none where nothing was judged."""
    if not scores:
        return []
    print(f"{robot}: S {float(interquartile_mean(np.array(scores))):.4f}, interquartile mean of {len(scores)} trials")
    return [bar(f"{robot}_S_lower_bound", lower_bound_of_interquartile_mean(scores), at_least=0.97)]


if __name__ == "__main__":
    sys.exit(main())
