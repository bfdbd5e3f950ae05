# SPDX-License-Identifier: Apache-2.0
"""Sanity on the real robots with the true dynamics: planning through MuJoCo itself."""

import numpy as np
import pytest
from simulated import CONFIG, SimulatedObjective, robot_and_task, run_episode

from mbrl_core.config import load_preset
from mbrl_planner.registry import PLANNERS, make_planner
from mbrl_robot.simulation import MujocoSimulation


def preset(kind: str) -> dict[str, object]:
    return load_preset(CONFIG / "planner" / f"{kind}.yaml", "planner")


@pytest.mark.slow
def test_default_preset_swings_the_cartpole_up() -> None:
    robot, task = robot_and_task("cartpole")
    planner = make_planner(preset("icem"), robot.spec, SimulatedObjective(robot, task), 0)
    total, states = run_episode(robot, task, planner, steps=60)
    assert task.state_is_success(states[-20:]).all()
    # The first second goes into the swing-up, after which a step earns nearly one.
    assert 30.0 < total < 60.0


@pytest.mark.parametrize("kind", PLANNERS.names())
def test_every_planner_keeps_a_pendulum_upright(kind: str) -> None:
    robot, task = robot_and_task("pendulum")
    small = preset(kind) | {"population_size": 40, "horizon": 10, "iterations": 2}
    planner = make_planner(small, robot.spec, SimulatedObjective(robot, task), 0)
    simulation = MujocoSimulation(robot)
    state = simulation.reset(np.array([np.pi - 0.15, 0.0]))
    for step in range(20):
        state = simulation.step(planner.plan(state, step_key=(1, step)).actions[0])
    # Without torque it would have fallen to the side by then.
    assert abs(state[0] - np.pi) < 0.2
