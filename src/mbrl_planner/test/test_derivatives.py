# SPDX-License-Identifier: Apache-2.0
"""First and second derivatives of every dynamics model and every task against central differences."""

from typing import Any

import numpy as np
import pytest
import torch
from numerical import check_derivatives, in_double_precision
from simulated import CONFIG, SimulatedObjective, robot_and_task

from mbrl_core.config import load_preset
from mbrl_core.dataset import Transitions
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_core.tasks import TASKS, make_task
from mbrl_dynamics.registry import DYNAMICS, make_model
from mbrl_planner.expansion import MeanDynamics, Trajectory

POINTS = 6
DIFFERENCES_OF_ITS_OWN = ("mujoco",)
SMALL: dict[str, dict[str, Any]] = {
    "ensemble": {"members": 3, "hidden_size": 16, "first_steps": 20},
    "mujoco": {"robot_file": str(CONFIG / "robots" / "cartpole.yaml")},
}
ROBOT_OF_TASK = {
    "cartpole_tip": "cartpole",
    "pendulum_upright": "pendulum",
    "acrobot_tip": "acrobot",
    "reacher_tip": "reacher",
    "arm_tip": "arm",
    "tip_target": "reacher",
    "joint_target": "reacher",
}


def points_of(robot: Robot, count: int, seed: int) -> Array:
    """States and actions [count, n + m]."""
    random = np.random.default_rng(seed)
    action = robot.spec.action
    return np.concatenate(
        [
            random.normal(size=(count, robot.spec.state.size)),
            random.uniform(action.lower, action.upper, (count, action.size)),
        ],
        axis=1,
    )


def transitions_of(robot: Robot, count: int) -> Transitions:
    """Independent transitions of the simulated robot."""
    size, data = robot.spec.state.size, points_of(robot, count, 0)
    state, action = data[:, :size], data[:, size:]
    dynamics = MeanDynamics(SimulatedObjective(robot, make_task("cartpole_tip")).model)
    following = dynamics.step(torch.from_numpy(state), torch.from_numpy(action)).numpy()
    return Transitions(state, action, following, np.zeros(count, dtype=int), np.arange(count))


@pytest.mark.parametrize("kind", DYNAMICS.names())
def test_every_model(kind: str) -> None:
    robot, _ = robot_and_task("cartpole")
    size = robot.spec.state.size
    model = make_model(
        kind, load_preset(CONFIG / "dynamics" / f"{kind}.yaml", "dynamics") | SMALL.get(kind, {}), robot.spec, 0
    )
    model.fit(transitions_of(robot, 200), 0)
    model = in_double_precision(model)

    def rows(points: Array) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(points[:, :size]).to(dtype), torch.from_numpy(points[:, size:]).to(dtype)

    def by_row(values: torch.Tensor) -> Array:
        return values.detach().double().transpose(0, 1).numpy()

    points, dtype = points_of(robot, POINTS, 1), torch.float64
    exact = model.predict(*rows(points)).mean.dtype == torch.float64
    dtype = torch.float64 if exact else torch.float32
    check_derivatives(
        lambda at: by_row(model.predict(*rows(at)).mean),
        lambda at: by_row(torch.cat(model.jacobians(*rows(at)), dim=-1)),
        lambda at: by_row(model.hessians(*rows(at))),
        points,
        width=1e-5 if exact else 1e-2,
        tolerance=5e-3 if not exact else 1e-5 if kind in DIFFERENCES_OF_ITS_OWN else 1e-7,
    )


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_every_task(kind: str) -> None:
    robot, _ = robot_and_task(ROBOT_OF_TASK[kind])
    task, size = TASKS[kind](), robot.spec.state.size
    problem = SimulatedObjective(robot, task).trajectory_problem(robot.spec)

    def value(points: Array) -> Array:
        return -np.asarray(task.reward(points[:, :size], points[:, size:-size], points[:, -size:]))

    def derivatives(points: Array) -> tuple[Array, Array]:
        found = [problem.expand(transition(point), second_order=False) for point in points]
        return np.stack([item.slope[0] for item in found]), np.stack([item.curvature[0] for item in found])

    def transition(point: Array) -> Trajectory:
        return Trajectory(np.stack([point[:size], point[-size:]]), point[None, size:-size], 0.0)

    points = np.concatenate([points_of(robot, POINTS, 2), points_of(robot, POINTS, 3)[:, :size]], axis=1)
    check_derivatives(
        value, lambda at: derivatives(at)[0], lambda at: derivatives(at)[1], points, width=1e-5, tolerance=1e-7
    )
