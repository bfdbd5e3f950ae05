# SPDX-License-Identifier: Apache-2.0
"""The regret ledger of a robot: what planner, learned model and real time cost, over seeds.

For each seed the whole system learns in real time and is then judged over further episodes with its model frozen.
The same episodes are repeated offline in lockstep with an unhurried planner on the true dynamics, with the system's
planner there, and with that planner on the learned model (mbrl_bringup.ledger). `--converged` judges the unhurried
planner instead: twice its population and half as many iterations again, on tuning seeds.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import bar, report

from mbrl_bringup import ledger
from mbrl_bringup.batch import RunRequest, execute
from mbrl_bringup.experiment import ExperimentConfig, load_task
from mbrl_bringup.ledger_trials import (
    Episode,
    make_ledger,
    planned_return,
    random_return,
    read_inputs,
    unhurried_settings,
)
from mbrl_bringup.plots import draw_ledger
from mbrl_core.config import load_preset, load_tuning
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import load_robot, start_state
from mbrl_dynamics.registry import make_model

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config"
TUNING_SEEDS = 100  # first of them; the ledger's own seeds are below
SAME = 1e-9
# Standard errors that the unhurried planner's mean may lie below another stage's.
ALLOWANCE = 2.0


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    return converged(options) if options.converged else account(options)


def arguments() -> argparse.Namespace:
    """The command line."""
    robots = sorted(path.stem for path in (CONFIG / "robots").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robot", nargs="?", default="cartpole", choices=robots, help="default: cartpole")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--trials", type=int, default=4, help="learning trials, one of them random (default: 4)")
    parser.add_argument("--evaluations", type=int, default=1, help="episodes judged for each seed (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of the true dynamics (default: 2)")
    parser.add_argument(
        "--mode",
        default="realtime",
        choices=["realtime", "lockstep"],
        help="of the runs; in lockstep latency costs nothing (default: realtime)",
    )
    parser.add_argument("--full", action="store_true", help="15 seeds, 3 episodes each, unless given")
    parser.add_argument("--converged", action="store_true", help="judge the unhurried planner, on tuning seeds")
    parser.add_argument("--keep", default="", help="folder to keep the runs in (default: thrown away)")
    options = parser.parse_args()
    if options.full:
        options.seeds = 15 if options.seeds == parser.get_default("seeds") else options.seeds
        options.evaluations = 3 if options.evaluations == parser.get_default("evaluations") else options.evaluations
    if min(options.seeds, options.evaluations, options.threads) < 1 or options.trials < 2 or options.first_seed < 0:
        parser.error("expected --seeds, --evaluations and --threads at least 1, --trials at least 2")
    return options


def account(options: argparse.Namespace) -> int:
    """The ledger."""
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="mbrl_ledger_") as temporary:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            run = execute(request(options, seed, Path(options.keep or temporary)))
            rows.extend(make_ledger(read_inputs(run, options.threads), note=progress))
    print(ledger.text(rows))
    name = f"ledger_{options.robot}" + ("" if options.mode == "realtime" else f"_{options.mode}")
    status = report(name, bars(rows), rows)
    picture = Path(__file__).parent / "results" / f"{name}.png"
    draw_ledger(rows, picture, f"regret ledger of {options.robot}, {options.mode}")
    return status


def request(options: argparse.Namespace, seed: int, folder: Path) -> RunRequest:
    """A run that learns, then is judged with the model frozen."""
    return RunRequest(
        folder / f"{options.robot}_seed_{seed}",
        {
            "robot": options.robot,
            "mode": options.mode,
            "record": "false",
            "trials": str(options.trials),
            "seed": str(seed),
        },
        {
            "experiment": {"evaluation_trials": options.evaluations},
            "learner": {"learner.last_episode": options.trials},
        },
        timeout=900.0,
    )


def bars(rows: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Criteria: the losses add up, intervals are finite, and nothing beats the unhurried planner beyond error."""
    lost = {loss.cause: loss for loss in ledger.losses(rows)}
    means = ledger.stage_means(rows)
    total = lost.pop("total")
    unexplained = abs(sum(loss.mean for loss in lost.values()) - (means["unhurried"] - means["real"]))
    result = [bar("losses_less_their_total", unexplained, at_most=SAME * max(1.0, abs(total.mean)))]
    result += [bar(f"interval_of_{loss.cause}", loss.upper - loss.lower, at_least=0.0) for loss in lost.values()]
    for stage in ledger.STAGES[1:]:
        ahead = np.array([row["unhurried"] - row[stage] for row in rows])
        error = float(ahead.std(ddof=1) / np.sqrt(len(ahead))) if len(ahead) > 1 else float("nan")
        result.append(bar(f"unhurried_less_{stage}", float(ahead.mean()), at_least=-ALLOWANCE * error))
    return result


def converged(options: argparse.Namespace) -> int:
    """What a still larger budget would add to the unhurried planner's return."""
    path = CONFIG / "robots" / f"{options.robot}.yaml"
    robot = load_robot(path)
    preset = load_task(ExperimentConfig(robot_file=str(path)), robot.task, robot.spec)
    truth = make_model("mujoco", {"robot_file": str(path), "threads": options.threads}, robot.spec, 0)
    settings = unhurried_settings(horizon_of(options.robot))
    doubled = {
        **settings,
        "population_size": 2 * settings["population_size"],
        "iterations": settings["iterations"] * 3 // 2,
    }
    rows = []
    for seed in range(TUNING_SEEDS, TUNING_SEEDS + options.seeds):
        start = start_state(robot, generator(seed, 1, 0, "start"))
        episode = Episode(seed, 1, start, robot.episode_steps, preset.for_trial(seed, 1, 1))
        row = {
            "seed": seed,
            "unhurried": planned_return(robot, episode, settings, truth),
            "doubled": planned_return(robot, episode, doubled, truth),
            "random": random_return(robot, episode),
        }
        progress(", ".join(f"{name} {value:.2f}" for name, value in row.items()))
        rows.append(row)
    gained = np.mean([row["doubled"] - row["unhurried"] for row in rows])
    span = np.mean([row["unhurried"] - row["random"] for row in rows])
    percent = 100.0 * abs(float(gained / span))
    return report(f"ledger_{options.robot}_converged", [bar("change_when_doubled_percent", percent, at_most=1.0)], rows)


def horizon_of(robot: str) -> int:
    """The horizon that the default planner has on a robot: its preset's, or the one of the robot's tuning file."""
    own = load_tuning(CONFIG / "tuning" / f"{robot}.yaml", "planner").get("planner", {})
    preset = load_preset(CONFIG / "planner" / "icem.yaml", "planner")
    return int({**preset, **own}["horizon"])


def progress(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
