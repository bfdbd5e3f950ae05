# SPDX-License-Identifier: Apache-2.0
"""What is seen of a robot: names, the shift of a history, and what tasks make of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mbrl_core.config import ConfigurationError
from mbrl_core.observation import Observation
from mbrl_core.observed_task import ObservedTask, plain_task, task_on
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import SpecError, state_difference
from mbrl_core.tasks import CartpoleTip, PendulumUpright

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
IMU = {"name": "cart", "kind": "imu", "topic": "imu", "entries": ["pitch", "linear_acceleration_x"]}


def robot(tmp_path: Path, name: str = "cartpole", **estimation: Any) -> Robot:
    content = yaml.safe_load((ROBOTS / f"{name}.yaml").read_text())
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**content, "estimation": estimation}))
    return load_robot(path)


def test_without_the_section_nothing_is_another(tmp_path: Path) -> None:
    plain, empty = load_robot(ROBOTS / "cartpole.yaml"), robot(tmp_path)
    assert plain.spec.interface_hash == empty.spec.interface_hash
    assert plain.observation.plain and plain.observation.spec == plain.spec.state
    whole = np.arange(4.0)
    assert (plain.observation.first(whole) == whole).all()
    assert (plain.observation.following(-whole, whole, np.zeros(1)) == whole).all()


def test_names_kinds_units_and_limits(tmp_path: Path) -> None:
    seen = robot(tmp_path, observe=["positions"], history=2, sensors=[IMU])
    state = seen.spec.state
    newest = ("slider_position", "hinge_position", "cart_pitch", "cart_linear_acceleration_x")
    assert state.names == (*newest, *(f"{name}@-1" for name in newest), "slider_action@-1")
    assert state.kinds == ("linear", "angular", "angular", "linear", *["linear"] * 5)
    assert state.units == (*("m", "rad", "rad", "m/s^2") * 2, "1")
    assert (state.lower[-1], state.upper[-1]) == (-3.0, 3.0)
    assert (state.lower[4], state.upper[4]) == (-5.0, 5.0) and math.isinf(state.upper[5])
    assert seen.spec.interface_hash != load_robot(ROBOTS / "cartpole.yaml").spec.interface_hash
    assert seen.observation.whole.size == 6 and not seen.observation.plain


@pytest.mark.parametrize("history", [2, 4])
def test_a_history_tells_exactly_what_was(tmp_path: Path, history: int) -> None:
    observation = robot(tmp_path, observe=["positions"], history=history).observation
    random = np.random.default_rng(0)
    wholes = np.cumsum(random.normal(0.0, 0.5, (20, 4)), axis=0)
    wholes[:, 1] = (wholes[:, 1] + np.pi) % (2.0 * np.pi) - np.pi  # a backend that wraps
    actions = random.normal(size=(20, 1))
    state = observation.first(wholes[0], actions[0])
    for index in range(1, 20):
        state = observation.following(state, wholes[index], actions[index])
        expected = [actions[max(index - ago, 0), 0] for ago in range(history - 1)]
        assert state[2 * history :].tolist() == expected
        for ago in range(history):
            older = wholes[max(index - ago, 0), :2]
            told = state[:2] + state[2 * ago : 2 * ago + 2] * (ago > 0)
            assert state_difference(told, older, np.array([False, True])) == pytest.approx([0.0, 0.0], abs=1e-12)


def test_a_start_in_a_state_is_positions_and_velocities(tmp_path: Path) -> None:
    seen = robot(tmp_path, observe=["positions"], history=2)
    state = seen.observation.following(np.array([0.1, 3.1, *[0.0] * 3]), np.array([0.3, -3.1, 9.0, 9.0]), np.ones(1))
    speed = (2.0 * math.pi - 6.2) / seen.spec.period
    assert seen.observation.joint_state(state) == pytest.approx([0.3, -3.1, 0.2 / seen.spec.period, speed])
    with_sensor = robot(tmp_path, sensors=[IMU], history=3)
    whole = np.arange(6.0)
    assert with_sensor.observation.joint_state(with_sensor.observation.first(whole)) == pytest.approx(whole[:4])


@pytest.mark.parametrize("library", [np, torch])
def test_a_task_is_the_same_where_more_is_seen(tmp_path: Path, library: Any) -> None:
    seen = robot(tmp_path, sensors=[IMU], history=2)
    task, random = CartpoleTip(obstacles=(0.3, 0.2, 0.05)), np.random.default_rng(1)
    observed = task_on(task, seen.spec)
    assert isinstance(observed, ObservedTask) and plain_task(observed) is task and plain_task(task) is task
    observed.check_reward(library)
    states, actions = random.normal(size=(2, 3, 5, 13)), random.normal(size=(3, 5, 1))
    batch = [library.asarray(values) for values in (states[0], actions, states[1])]
    cut = [batch[0][..., :4], batch[1], batch[2][..., :4]]
    assert (np.asarray(observed.reward(*batch)) == np.asarray(task.reward(*cut))).all()
    assert (np.asarray(observed.violates(batch[0])) == np.asarray(task.violates(cut[0]))).all()
    assert (np.asarray(observed.state_is_success(batch[0])) == np.asarray(task.state_is_success(cut[0]))).all()
    with pytest.raises(ConfigurationError, match="made for states slider_position"):
        observed.check_robot(load_robot(ROBOTS / "cartpole.yaml").spec)


@pytest.mark.parametrize("library", [np, torch])
def test_velocities_that_are_not_seen_are_those_of_the_last_step(tmp_path: Path, library: Any) -> None:
    seen = robot(tmp_path, "pendulum", observe=["positions"], history=3)
    task = PendulumUpright()
    observed = task_on(task, seen.spec)
    state = seen.observation.following(np.array([3.1, *[0.0] * 4]), np.array([-3.1, 0.0]), np.ones(1))
    speed = (2.0 * math.pi - 6.2) / seen.spec.period
    action, expected = np.zeros(1), np.array([-3.1, speed])
    found = observed.reward(*(library.asarray(values) for values in (state, action, state)))
    assert float(found) == pytest.approx(float(task.reward(expected, action, expected)))


def test_a_task_of_another_robot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has 2 joints and 1 actions, expected 1 and 1"):
        task_on(PendulumUpright(), robot(tmp_path, observe=["positions"], history=2).spec)
    # As many numbers as of positions and velocities, but others.
    with pytest.raises(ConfigurationError, match="expected positions and velocities"):
        CartpoleTip().check_robot(robot(tmp_path, observe=["positions"], history=2, actions=False).spec)
    with pytest.raises(ConfigurationError, match="has 4 states and 1 actions, expected 2 and 1"):
        task_on(PendulumUpright(), load_robot(ROBOTS / "cartpole.yaml").spec)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"observe": ["positions"]}, "estimation.history: got 1 beside observe"),
        ({"observe": ["velocities"]}, "estimation.observe: got"),
        ({"history": 0}, "estimation.history: got 0, expected a whole number from 1"),
        ({"history": True}, "estimation.history: got True"),
        ({"sensors": [{**IMU, "kind": "gps"}]}, "kind: got 'gps', expected one of imu, odometry"),
        ({"sensors": [{**IMU, "entries": ["x"]}]}, "entries of 'cart': got 'x', expected some of roll"),
        ({"sensors": [{**IMU, "entries": ["yaw", "yaw"]}]}, "expected none twice"),
        ({"sensors": [IMU, IMU]}, "name: got .* expected none twice"),
        ({"sensors": [{**IMU, "topic": ""}]}, "expected a 'topic'"),
        ({"sensors": [{**IMU, "name": "a@-1"}]}, "expected one without '@'"),
        ({"sensors": ["imu"]}, "estimation.sensors: got 'imu', expected a mapping"),
        ({"actions": True}, "estimation.actions: got True"),
        ({"delay": 1}, "estimation: unknown key 'delay'"),
    ],
)
def test_sections_that_make_no_sense_are_refused(tmp_path: Path, section: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        robot(tmp_path, **section)


def test_history_needs_no_robot_file() -> None:
    spec = load_robot(ROBOTS / "pendulum.yaml").spec
    observation = Observation(spec.state, 1, True, 2, spec.period)
    assert observation.following(np.array([1.0, 2.0, 0.0, 0.0]), np.array([1.5, 4.0]), np.ones(1)) == pytest.approx(
        [1.5, 4.0, -0.5, -2.0]
    )
