# SPDX-License-Identifier: Apache-2.0
"""`./mbrl tune planner`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .places import root

if TYPE_CHECKING:
    from mbrl_planner.tuning import Tuned

TUNED = ("kind", "iterations", "population_size", "elites", "particles")


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when a preset has been written."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.train:
        return _train_for_ever(options)

    from mbrl_core.config import ConfigurationError
    from mbrl_core.specs import SpecError
    from mbrl_dynamics.model import ModelError
    from mbrl_planner.errors import PlanningError
    from mbrl_planner.tuning import DoesNotFit

    try:
        return _tune(options)
    except (ConfigurationError, SpecError, ModelError, PlanningError, DoesNotFit, FileNotFoundError) as error:
        print(f"mbrl tune: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./mbrl tune",
        usage="./mbrl tune planner [--robot ROBOT] [--planner KIND] [--output FILE] ...",
        description="Find the iterations, population and particles with which plans fit the robot's control period on"
        " this machine, and write them to a parameter file for `parameters:=` of mbrl.launch.yaml.",
    )
    parser.add_argument("what", choices=("planner",), help="what to tune")
    parser.add_argument("--robot", default="cartpole", help="robot of config/robots (default: cartpole)")
    parser.add_argument("--planner", default="icem", help="planner preset to begin with (default: icem)")
    parser.add_argument("--dynamics", default="ensemble", help="preset of the learned model (default: ensemble)")
    parser.add_argument("--output", default="", help="file to write (default: KIND_ROBOT.yaml here)")
    parser.add_argument(
        "--deadline-fraction", type=float, default=0.0, help="share of the control period (default: planner_node's)"
    )
    parser.add_argument("--margin", type=float, default=0.9, help="share of that time to use (default: 0.9)")
    parser.add_argument(
        "--while-training", action="store_true", help="measure while another process trains as a learner does"
    )
    parser.add_argument("--plans", type=int, default=12, help="plans of each measurement (default: 12)")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    return parser


def _preset(folder: str, name: str, section: str) -> dict[str, Any]:
    from mbrl_core.config import ConfigurationError, load_preset

    path = root() / "config" / folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise ConfigurationError(f"there is no {section} preset {name!r}, expected one of {known}")
    return load_preset(path, section)


def _dynamics(options: argparse.Namespace) -> dict[str, Any]:
    """The preset of the model, with what known dynamics need to know."""
    preset = _preset("dynamics", options.dynamics, "dynamics")
    if preset.get("kind") == "mujoco":
        preset["robot_file"] = str(root() / "config" / "robots" / f"{options.robot}.yaml")
    return preset


def _robot_tuning(robot: str) -> dict[str, Any]:
    """What config/tuning/ROBOT.yaml says of the planner."""
    from mbrl_core.config import load_tuning

    path = root() / "config" / "tuning" / f"{robot}.yaml"
    return dict(load_tuning(path, "planner").get("planner", {})) if path.is_file() else {}


def _tune(options: argparse.Namespace) -> int:
    import torch

    from mbrl_core.config import ConfigurationError
    from mbrl_core.observed_task import task_on
    from mbrl_core.robot_file import load_robot
    from mbrl_core.tasks import task_of_preset
    from mbrl_planner.nodes.configuration import PlannerNodeConfig
    from mbrl_planner.tuning import Stopwatch, same_kind, tune

    torch.set_num_threads(1)
    fraction = options.deadline_fraction or PlannerNodeConfig().deadline_fraction
    if not 0.01 <= fraction <= 100.0 or not 0.1 <= options.margin <= 1.0 or options.plans < 3:
        raise ConfigurationError(
            f"--deadline-fraction {fraction:g}, --margin {options.margin:g}, --plans {options.plans}: expected"
            " 0.01 to 100, 0.1 to 1 and at least 3"
        )
    robot = load_robot(root() / "config" / "robots" / f"{options.robot}.yaml")
    preset = _preset("planner", options.planner, "planner")
    kind, config = same_kind(preset, _robot_tuning(options.robot))
    task = task_on(task_of_preset(_preset("tasks", robot.task, "task")), robot.spec)
    budget = options.margin * fraction * robot.spec.period
    print(f"{kind} for {robot.spec.name!r}: plans of {1e3 * budget:.1f} ms, {config.horizon} steps ahead", flush=True)
    stopwatch = Stopwatch(kind, robot.spec, task, _dynamics(options), options.plans)
    with _training(options):
        tuned = tune(config, stopwatch.model.members, budget, stopwatch)
    path = Path(options.output or f"{kind}_{options.robot}.yaml").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(kind, tuned, budget, options), encoding="utf-8")
    found = tuned.config
    print(
        f"{found.iterations} iterations of {found.population_size} candidates, {found.particles} particles:"
        f" {1e3 * tuned.seconds:.1f} ms\nwritten to {path}\n"
        f"./mbrl launch mbrl.launch.yaml robot:={options.robot} planner:={options.planner}"
        f" dynamics:={options.dynamics} parameters:={path}"
    )
    return 0


def _text(kind: str, tuned: Tuned, budget: float, options: argparse.Namespace) -> str:
    from mbrl_bringup.results import machine

    values = {"kind": kind, **{name: getattr(tuned.config, name, None) for name in TUNED[1:]}}
    load = "while another process trained" if options.while_training else "with nothing else started"
    lines = [
        f"# {kind} for {options.robot}, measured by `./mbrl tune planner` on {machine()['cpu']},",
        f"# {machine()['cores']} cores, {load}: a plan takes {1e3 * tuned.seconds:.1f} ms of {1e3 * budget:.1f} ms.",
        "# For `parameters:=` of mbrl.launch.yaml, with the same robot, planner and dynamics.",
        "/**/planner:",
        "  ros__parameters:",
        "    planner:",
        *(f"      {name}: {value}" for name, value in values.items() if value is not None),
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def _training(options: argparse.Namespace) -> Iterator[None]:
    """Another process that trains while this lasts, where that is wanted."""
    if not options.while_training:
        yield
        return
    import subprocess

    program = "import sys; from mbrl_bringup.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["tune", "planner", "--train", "--robot", options.robot, "--dynamics", options.dynamics]
    process = subprocess.Popen([sys.executable, "-c", program, *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"training\n":
            raise RuntimeError("the training process did not start")
        yield
    finally:
        process.kill()
        process.wait()


def _train_for_ever(options: argparse.Namespace) -> int:
    """Fits on as much data as a few episodes bring, again and again, with the priority of the learner's training."""
    parent = os.getppid()
    import torch

    from mbrl_core.robot_file import load_robot
    from mbrl_dynamics.nodes.background import give_way
    from mbrl_dynamics.nodes.configuration import LearnerNodeConfig
    from mbrl_dynamics.registry import make_model
    from mbrl_planner.tuning import rehearsal_data

    torch.set_num_threads(1)
    give_way(LearnerNodeConfig().niceness)
    spec = load_robot(root() / "config" / "robots" / f"{options.robot}.yaml").spec
    preset = _dynamics(options)
    model, data = make_model(preset["kind"], preset, spec, 0), rehearsal_data(spec, 1000)
    print("training", flush=True)
    while os.getppid() == parent:
        model.fit(data, 0)
    return 0
