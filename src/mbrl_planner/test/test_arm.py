# SPDX-License-Identifier: Apache-2.0
"""An arm of seven joints is brought to its target and held there against gravity."""

import numpy as np
import pytest
from simulated import CONFIG, SimulatedObjective, robot_and_task, run_episode

from mbrl_core.config import load_preset
from mbrl_planner.registry import make_planner


@pytest.mark.slow
def test_the_arm_reaches_its_target_with_known_dynamics() -> None:
    robot, task = robot_and_task("arm")
    values = {
        **load_preset(CONFIG / "planner" / "icem.yaml", "planner"),
        "horizon": 12,
        "particles": 1,
        "propagation": "mean",
    }
    planner = make_planner(values, robot.spec, SimulatedObjective(robot, task), 0)
    _, states = run_episode(robot, task, planner, 40)
    distance = np.sqrt(task.squared_distance(states))
    assert distance[0] > 0.3
    assert distance[20:].max() < 0.05, "there in 0.8 s, and it stays"
    assert np.median(distance[20:]) < 0.02
    limits = np.array([joint.position_limits for joint in robot.joints])
    assert (states[:, :7] > limits[:, 0] - 0.1).all() and (states[:, :7] < limits[:, 1] + 0.1).all()
