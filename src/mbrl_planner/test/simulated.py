# SPDX-License-Identifier: Apache-2.0
"""Planning through the simulator itself: the true dynamics of the real robots."""

import dataclasses
from pathlib import Path

import numpy as np

from mbrl_core.config import load_preset
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import Task, task_of_preset
from mbrl_dynamics.registry import make_model
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import Planner
from mbrl_robot.simulation import MujocoSimulation

CONFIG = Path(__file__).resolve().parents[3] / "config"


class SimulatedObjective(ModelObjective):
    """Returns and states of action sequences in MuJoCo, of a robot of config/robots."""

    def __init__(self, robot: Robot, task: Task) -> None:
        parameters = {"robot_file": str(CONFIG / "robots" / f"{robot.spec.name}.yaml")}
        super().__init__(make_model("mujoco", parameters, robot.spec, 0), task, particles=1, propagation="mean")


def robot_and_task(name: str, goal: tuple[float, ...] | None = None) -> tuple[Robot, Task]:
    """A robot of config/robots and the task that its file names."""
    robot = load_robot(CONFIG / "robots" / f"{name}.yaml")
    task = task_of_preset(load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task"))
    return robot, task if goal is None else dataclasses.replace(task, goal=goal)


def run_episode(robot: Robot, task: Task, planner: Planner, steps: int, seed: int = 0) -> tuple[float, Array]:
    """Return and states [steps + 1, state_size] of an episode of model predictive control."""
    simulation = MujocoSimulation(robot)
    state = simulation.reset(generator(seed, 0, 0, "start"))
    states, total = [state], 0.0
    for step in range(steps):
        action = planner.plan(state, step_key=(seed + 1, step)).actions[0]
        following = simulation.step(action)
        total += float(task.reward(state, action, following))
        state = following
        states.append(state)
    return total, np.array(states)
