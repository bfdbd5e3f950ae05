# SPDX-License-Identifier: Apache-2.0
"""What is imitated: robots, tasks, starts, and the planners that are the experts, on known dynamics."""

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from _balance import CartpoleBalance, EndlessBalance
from _twin import Twin
from _twin_model import TwinModel

from mbrl_core.config import load_preset
from mbrl_core.robot_file import Robot, StartDistribution, load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_planner.objective import ModelObjective
from mbrl_policy.training import SimulatedRobot

CONFIG = Path(__file__).resolve().parents[1] / "config"
LIBRARY = "MBRL_BENCH_TWIN"  # environment variable that tells worker processes where the compiled twin is
STEPS = 50
# Starts of demonstrations, wider than the robots' own. The reacher's elbow is bent: from a stretched arm the target is
# as near with the elbow to the left as to the right, and which one the expert takes is chance.
STARTS = {
    "cartpole": StartDistribution((0.0, math.pi), (0.25, 0.1), (0.0, 0.0), (0.3, 0.4)),
    "reacher": StartDistribution((0.0, 1.0), (0.5, 0.3), (0.0, 0.0), (0.5, 0.5)),
}
ILQR = {"kind": "ilqr", "restarts": 0, "population_size": 2}
EXPERTS: dict[str, dict[str, Any]] = {
    "cartpole": {**ILQR, "horizon": 20, "iterations": 2},
    "reacher": {**ILQR, "horizon": 12, "iterations": 4},
}
PROBLEMS = tuple(EXPERTS)


@dataclass(frozen=True)
class Problem:
    """`robot` begins where demonstrations do, `judged` where policies are judged; `expert` are a planner's settings
    through `model`, `objective` what it maximises.
    """

    robot: SimulatedRobot
    judged: SimulatedRobot
    model: DynamicsModel
    objective: ModelObjective
    expert: Mapping[str, Any]


@lru_cache
def problem(name: str, start_scale: float) -> Problem:
    """By name, once a process; `start_scale` is the spread of judged starts over that of the demonstrations'."""
    file = CONFIG / "robots" / f"{name}.yaml"
    start = STARTS[name]
    wider = dataclasses.replace(
        start,
        position_std=tuple(start_scale * value for value in start.position_std),
        velocity_std=tuple(start_scale * value for value in start.velocity_std),
    )
    robot, judged = (dataclasses.replace(load_robot(file), start=each) for each in (start, wider))
    if name == "cartpole":
        task, planned, model = CartpoleBalance(), EndlessBalance(), _twin(robot)
    else:
        task = planned = task_of_preset(load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task"))
        model = make_model("mujoco", {"robot_file": str(file), "threads": 1}, robot.spec, 0)
    return Problem(
        SimulatedRobot(robot, task, STEPS), SimulatedRobot(judged, task, STEPS), model,
        ModelObjective(model, planned, 1, "mean"), EXPERTS[name],
    )  # fmt: skip


def _twin(robot: Robot) -> DynamicsModel:
    library = os.environ.get(LIBRARY)
    return TwinModel(Twin(robot, Path(library) if library else None))
