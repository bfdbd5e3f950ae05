# SPDX-License-Identifier: Apache-2.0
"""Known dynamics against the simulation of every robot, and what they refuse."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mbrl_core.config import load_preset
from mbrl_core.mjcf import load_mjcf
from mbrl_core.robot_file import Robot, load_robot
from mbrl_dynamics.bare_mjcf import bare
from mbrl_dynamics.batch_simulator import BatchSimulator
from mbrl_dynamics.known import Mujoco
from mbrl_dynamics.model import ModelError
from mbrl_dynamics.registry import make_model
from mbrl_dynamics.rollout import differentiable_rollout, rollout
from mbrl_robot.simulation import MujocoSimulation

CONFIG = Path(__file__).parents[3] / "config"
ROBOTS = sorted(path.stem for path in (CONFIG / "robots").glob("*.yaml") if load_robot(path).observation.plain)


def robot_and_model(name: str, **parameters: object) -> tuple[Robot, Mujoco]:
    path = CONFIG / "robots" / f"{name}.yaml"
    robot = load_robot(path)
    model = make_model("mujoco", {"robot_file": str(path), **parameters}, robot.spec, 0)
    assert isinstance(model, Mujoco)
    return robot, model


def simulated(robot: Robot, start: np.ndarray, actions: np.ndarray, substeps: int = 1) -> np.ndarray:
    """States [H + 1, state_size] of the simulation."""
    simulation = MujocoSimulation(robot, substeps)
    states = [simulation.reset(start)]
    states.extend(simulation.step(action) for action in actions)
    return np.array(states)


def test_a_robot_that_is_seen_by_its_positions_alone_is_refused() -> None:
    assert "pendulum_positions" not in ROBOTS
    with pytest.raises(ModelError, match="planning through MuJoCo needs a state of positions and velocities"):
        robot_and_model("pendulum_positions")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ROBOTS)
def test_trajectories_are_those_of_the_simulation(name: str, threads: int) -> None:
    robot, model = robot_and_model(name, threads=threads)
    random = np.random.default_rng(1)
    start = random.normal(0.0, 0.5, robot.spec.state.size)
    # Beyond the limits, too: both cut. Runs of one sign drive the cart against its end stop.
    actions = 1.3 * np.array(robot.spec.action.upper) * random.uniform(-1.0, 1.0, (8, 30, robot.spec.action.size))
    actions[0] = np.array(robot.spec.action.upper)
    rolled = rollout(model, torch.tensor(start), torch.tensor(actions), 3, "tsinf", torch.Generator()).states
    assert rolled.shape == (8, 3, 31, robot.spec.state.size)
    for index in range(8):
        expected = simulated(robot, start, actions[index])
        np.testing.assert_allclose(rolled[index, 2].numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ROBOTS)
def test_steps_are_those_of_the_simulation(name: str) -> None:
    robot, model = robot_and_model(name)
    random = np.random.default_rng(2)
    states = random.normal(0.0, 0.5, (20, robot.spec.state.size))
    actions = random.uniform(-1.0, 1.0, (20, robot.spec.action.size))
    mean = model.predict(torch.tensor(states), torch.tensor(actions)).mean
    assert mean.dtype == torch.float64 and mean.shape == (1, *states.shape)
    for state, action, following in zip(states, actions, mean[0].numpy(), strict=True):
        np.testing.assert_allclose(following, simulated(robot, state, action[None])[1], rtol=1e-9, atol=1e-9)


def test_joint_order_and_substeps_are_those_of_the_robot_file(tmp_path: Path) -> None:
    content = yaml.safe_load((CONFIG / "robots" / "cartpole.yaml").read_text())
    path = tmp_path / "cartpole.yaml"
    path.write_text(yaml.safe_dump({**content, "joints": content["joints"][::-1]}))
    robot = load_robot(path)
    model = make_model("mujoco", {"robot_file": str(path), "substeps": 3}, robot.spec, 0)
    start, actions = np.array([0.3, 0.1, -0.2, 0.5]), np.array([[2.0], [-3.0], [1.0]])
    states = rollout(model, torch.tensor(start), torch.tensor(actions)[None], 1, "mean", torch.Generator()).states
    np.testing.assert_allclose(states[0, 0].numpy(), simulated(robot, start, actions, 3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ROBOTS)
def test_jacobians_are_those_of_the_simulation(name: str) -> None:
    robot, model = robot_and_model(name)
    random = np.random.default_rng(3)
    size, inputs = robot.spec.state.size, robot.spec.action.size
    states, actions = random.normal(0.0, 0.5, (3, size)), random.uniform(-0.9, 0.9, (3, inputs))
    by_state, by_action = model.jacobians(torch.tensor(states), torch.tensor(actions))
    at, step = np.concatenate([states, actions], axis=1), 1e-3
    for row in range(3):
        for index in range(size + inputs):
            shift = step * np.eye(size + inputs)[index]
            forth, back = (
                simulated(robot, point[:size], point[None, size:])[1] for point in (at[row] + shift, at[row] - shift)
            )
            column = by_state[0, row, :, index] if index < size else by_action[0, row, :, index - size]
            np.testing.assert_allclose(column.numpy(), (forth - back) / (2.0 * step), rtol=1e-3, atol=1e-5)


def test_at_an_action_limit_the_derivative_is_towards_what_exists() -> None:
    _, model = robot_and_model("cartpole")
    state = torch.zeros(3, 4, dtype=torch.float64)
    _, by_action = model.jacobians(state, torch.tensor([[-3.0], [0.0], [3.0]], dtype=torch.float64))
    torch.testing.assert_close(by_action[0, 0], by_action[0, 1], rtol=0.2, atol=1e-3)
    torch.testing.assert_close(by_action[0, 2], by_action[0, 1], rtol=0.2, atol=1e-3)


def test_gradients_flow_back_through_a_rollout() -> None:
    _, model = robot_and_model("cartpole")
    start = torch.tensor([0.0, 0.4, 0.0, 0.0], dtype=torch.float64)
    actions = torch.tensor([[[0.5], [-1.0], [0.3], [0.0]]], dtype=torch.float64, requires_grad=True)

    def value(sequence: torch.Tensor) -> torch.Tensor:
        return differentiable_rollout(model, start, sequence, 1, "mean", torch.Generator()).states.sin().sum()

    (gradient,) = torch.autograd.grad(value(actions), actions)
    for step in range(4):
        shift = torch.zeros_like(actions)
        shift[0, step] = 1e-3
        with torch.no_grad():
            difference = (value(actions + shift) - value(actions - shift)) / 2e-3
        torch.testing.assert_close(gradient[0, step, 0], difference, rtol=1e-4, atol=1e-6)


def test_what_diverges_or_is_no_number_is_predicted_as_nan() -> None:
    _, model = robot_and_model("cartpole")
    good = torch.zeros(4)
    states = torch.stack([good, torch.tensor([0.0, torch.nan, 0.0, 0.0]), good, torch.tensor([0.0, 0.0, 0.0, 1e9])])
    actions = torch.tensor([[0.1], [0.1], [torch.nan], [0.1]])
    mean = model.predict(states, actions).mean[0]
    assert mean.isfinite().all(dim=1).tolist() == [True, False, False, False]
    torch.testing.assert_close(mean[:1], model.predict(states[:1], actions[:1]).mean[0])
    later = rollout(model, states[3], torch.zeros(2, 5, 1), 1, "mean", torch.Generator()).states
    assert later[:, 0, 0].isfinite().all() and later[:, 0, 1:].isnan().all()


@pytest.mark.parametrize("name", ROBOTS)
def test_leaving_out_what_only_looks_changes_no_bit(name: str) -> None:
    robot, _ = robot_and_model(name)
    assert robot.mjcf is not None
    mjcf = load_mjcf(robot)
    stripped = bare(mjcf, robot.mjcf)
    assert stripped.model.ngeom == 0 < mjcf.model.ngeom
    random = np.random.default_rng(5)
    state = random.normal(0.0, 0.5, (10, robot.spec.state.size))
    control = random.uniform(-1.0, 1.0, (10, 20, robot.spec.action.size))
    np.testing.assert_array_equal(
        BatchSimulator(stripped).run(state, control, 1), BatchSimulator(mjcf).run(state, control, 1)
    )


def test_what_may_touch_stays(tmp_path: Path) -> None:
    robot, _ = robot_and_model("pendulum")
    assert robot.mjcf is not None
    path = tmp_path / "touching.xml"
    text = robot.mjcf.read_text().replace('<include file="scene.xml"/>', "").replace('material="floor"', "")
    text = re.sub(r' material="\w+"', "", text).replace('<geom name="bob"', '<geom name="bob" contype="1"')
    path.write_text(text)
    mjcf = load_mjcf(dataclasses.replace(robot, mjcf=path))
    assert bare(mjcf, path) is mjcf


def test_clones_and_thread_counts_give_the_same_bytes() -> None:
    robot, model = robot_and_model("cartpole", threads=2)
    _, single = robot_and_model("cartpole", threads=1)
    actions = torch.rand(50, 10, 1, generator=torch.Generator().manual_seed(0))
    start = torch.zeros(robot.spec.state.size)
    first, second, third = (
        rollout(one, start, actions, 1, "mean", torch.Generator()).states.clone()
        for one in (model, model.clone(), single)
    )
    assert torch.equal(first, second) and torch.equal(first, third)


def test_other_physics_are_refused(tmp_path: Path) -> None:
    _, model = robot_and_model("cartpole")
    _, other = robot_and_model("cartpole", substeps=2)
    with pytest.raises(ModelError, match="physics '.*/2/2', but those of .*cartpole.yaml here are '.*/2/1'"):
        model.load_arrays(other.state_arrays())
    with pytest.raises(ModelError, match="'physics' is missing"):
        model.load_arrays({})


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    robot, _ = robot_and_model("cartpole")
    for path, expected in (
        ("", "'dynamics.robot_file': got '', expected the path"),
        (str(tmp_path / "gone.yaml"), "'dynamics.robot_file': .*gone.yaml.*does not exist"),
        (str(CONFIG / "robots" / "acrobot.yaml"), "is of the robot 'acrobot', expected the interface of 'cartpole'"),
    ):
        with pytest.raises(ModelError, match=expected):
            make_model("mujoco", {"robot_file": path}, robot.spec, 0)
    content = yaml.safe_load((CONFIG / "robots" / "cartpole.yaml").read_text())
    mjcf = tmp_path / "more.xml"
    mjcf.write_text(
        (robot.mjcf.read_text() if robot.mjcf else "")
        .replace(
            '<include file="scene.xml"/>', f'<include file="{robot.mjcf.parent if robot.mjcf else ""}/scene.xml"/>'
        )
        .replace("</worldbody>", '<body><freejoint/><geom size="0.1" mass="1"/></body></worldbody>')
    )
    path = tmp_path / "cartpole.yaml"
    path.write_text(yaml.safe_dump({**content, "mjcf": str(mjcf)}))
    with pytest.raises(ModelError, match="9 positions, 8 velocities .* expected the robot file's 2 joints"):
        make_model("mujoco", {"robot_file": str(path)}, robot.spec, 0)


def test_preset_names_the_kind_and_its_parameters() -> None:
    robot, model = robot_and_model("cartpole")
    preset = load_preset(CONFIG / "dynamics" / "mujoco.yaml", "dynamics")
    made = make_model(preset["kind"], {**preset, "robot_file": model.configuration.robot_file}, robot.spec, 0)
    assert made.configuration == model.configuration
