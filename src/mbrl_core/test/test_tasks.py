# SPDX-License-Identifier: Apache-2.0
"""Rewards: the same numbers from numpy and torch, batched, and right at states worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.observed_task import task_on
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import TASKS, make_task, task_of_preset

CONFIG = Path(__file__).resolve().parents[3] / "config"


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_numpy_and_torch_agree_on_any_leading_shape(kind: str) -> None:
    task = make_task(kind)
    random = np.random.default_rng(0)
    state, next_state = (random.normal(size=(3, 2, 5, task.state_size)) for _ in range(2))
    action = random.normal(size=(3, 2, 5, task.action_size))
    reward = task.reward(state, action, next_state)
    tensors = (torch.from_numpy(values) for values in (state, action, next_state))
    assert reward.shape == (3, 2, 5)
    np.testing.assert_allclose(task.reward(*tensors).numpy(), reward, rtol=1e-12)
    single = task.reward(state[1, 0, 2], action[1, 0, 2], next_state[1, 0, 2])
    assert single == pytest.approx(reward[1, 0, 2])
    assert task.terminated(state).shape == task.state_is_success(state).shape == (3, 2, 5)


def test_cartpole_reward_is_that_of_the_paper() -> None:
    task = make_task("cartpole_tip")
    upright = np.array([0.0, np.pi, 0.0, 0.0])
    hanging = np.array([1.0, 0.0, 0.0, 0.0])
    assert task.reward(hanging, np.array([2.0]), upright) == pytest.approx(1.0 - 0.04)
    distance = 1.0**2 + 1.2**2
    assert task.reward(upright, np.array([0.0]), hanging) == pytest.approx(np.exp(-distance / 0.36))
    quarter = np.array([0.6, np.pi / 2, 0.0, 0.0])  # tip = (0.6 - 0.6, 0)
    assert task.reward(upright, np.array([0.0]), quarter) == pytest.approx(np.exp(-1.0))


def test_reacher_tip_is_forward_kinematics() -> None:
    task = make_task("reacher_tip", goal=(0.0, 0.21))
    straight_up = np.array([np.pi / 2, 0.0, 0.0, 0.0])
    assert task.squared_distance(straight_up) == pytest.approx(0.0)
    assert task.state_is_success(straight_up)
    assert not task.state_is_success(np.zeros(4))


def test_pendulum_success_is_upright_and_slow() -> None:
    task = make_task("pendulum_upright")
    states = np.array([[np.pi + 0.19, 0.0], [np.pi + 0.21, 0.0], [-np.pi, 0.49], [np.pi, 0.51], [0.0, 0.0]])
    assert task.state_is_success(states).tolist() == [True, False, True, False, False]


def test_a_changed_weight_changes_the_reward() -> None:
    action = np.array([2.0])
    state = np.zeros(4)
    free = make_task("cartpole_tip", weights={"action": 0.0}).reward(state, action, state)
    assert make_task("cartpole_tip").reward(state, action, state) == pytest.approx(free - 0.04)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "fly"}, "unknown task 'fly'.*cartpole_tip"),
        ({"kind": "cartpole_tip", "goal": (1.0,)}, "goal: got 1 numbers, expected 2"),
        ({"kind": "cartpole_tip", "weights": {"speed": 1.0}}, "unknown weight 'speed'"),
        ({"kind": "cartpole_tip", "parameters": {"mass": 1.0}}, "unknown parameter 'mass'"),
        ({"kind": "pendulum_upright", "goal": (float("nan"),)}, "finite"),
    ],
)
def test_a_bad_task_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_task(**arguments)


@pytest.mark.parametrize("path", sorted((CONFIG / "tasks").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_task_fits_a_shipped_robot(path: Path) -> None:
    preset = load_preset(path, "task")
    task = make_task(preset["kind"], tuple(preset["goal"]), obstacles=preset.get("obstacles", ()))
    robots = [load_robot(robot) for robot in (CONFIG / "robots").glob("*.yaml")]
    kinds = {robot.task: load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task")["kind"] for robot in robots}
    users = [robot for robot in robots if kinds[robot.task] == task.kind]
    assert users
    for robot in users:
        task_on(task, robot.spec)
    plain = [robot.spec for robot in robots if robot.observation.plain]
    with pytest.raises(ConfigurationError, match="has .* states"):
        task.check_robot(
            next(spec for spec in plain if (spec.state.size, spec.action.size) != (task.state_size, task.action_size))
        )


def test_a_preset_gives_everything_that_a_task_has() -> None:
    preset = {
        "kind": "reacher_tip",
        "goal": [0.1, 0.05],
        "parameters": {"width": 0.03},
        "weights": {"close": 2.0},
        "obstacles": [0.1, 0.1, 0.02],
        "goal_radius": [0.05, 0.2],
    }
    task = task_of_preset(preset)
    assert (task.kind, task.goal, tuple(task.obstacles)) == ("reacher_tip", (0.1, 0.05), (0.1, 0.1, 0.02))
    assert task.parameters["width"] == 0.03 and task.weights["close"] == 2.0
    with pytest.raises(ConfigurationError, match="unknown task ''"):
        task_of_preset({})
