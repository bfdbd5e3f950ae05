# SPDX-License-Identifier: Apache-2.0
"""Versions of a robot, and the one control trajectory for all of them."""

import dataclasses
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from mbrl_core.checkpoint import CheckpointError, load_checkpoint
from mbrl_core.config import load_preset
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.randomised import RandomisationConfig, RandomisedSimulations, perturbed
from mbrl_dynamics.registry import make_model
from mbrl_planner.backward import Regularisation, backward_pass, stage_penalties
from mbrl_planner.expansion import Trajectory
from mbrl_planner.objective import ModelObjective
from mbrl_policy.imitation.ensemble_trajectory import EnsembleProblem, EnsembleTrajectory, shared_step
from mbrl_policy.training import SimulatedRobot, TrainingAlgorithm, make_trainer, save_trainer

CONFIG = Path(__file__).resolve().parents[3] / "config"
FIXED = {"mass_spread": 0.0, "damping_spread": 0.0, "effort_spread": 0.0, "friction_spread": 0.0, "contact_spread": 0.0}
BLOCK = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1" friction="0.5"/>
    <body name="block" pos="0 0 0.1">
      <joint name="along" type="slide" axis="1 0 0"/>
      <joint name="up" type="slide" axis="0 0 1"/>
      <geom name="block" type="box" size="0.1 0.1 0.1" mass="1" friction="0.5"/>
    </body>
  </worldbody>
  <actuator><motor name="along" joint="along" gear="1"/></actuator>
</mujoco>
"""


def robot_of(name: str) -> Robot:
    return load_robot(CONFIG / "robots" / f"{name}.yaml")


def simulated(name: str, steps: int) -> SimulatedRobot:
    loaded = robot_of(name)
    return SimulatedRobot(loaded, task_of_preset(load_preset(CONFIG / "tasks" / f"{loaded.task}.yaml", "task")), steps)


def trainer_of(**settings: Any) -> TrainingAlgorithm:
    return make_trainer(
        "trajectory_ensemble",
        {"steps": 3, "members": 2, "candidates": 4, "evaluation_rollouts": 1, **settings},
        simulated("cartpole", 20),
        5,
    )


def test_the_first_version_is_the_simulation_and_so_are_all_without_spread() -> None:
    robot = robot_of("cartpole")
    model = make_model("mujoco", {"robot_file": str(CONFIG / "robots" / "cartpole.yaml"), "threads": 1}, robot.spec, 0)
    random = np.random.default_rng(0)
    states, actions = random.normal(size=(6, 4)), random.normal(size=(6, 1))
    expected = model.predict(torch.from_numpy(states), torch.from_numpy(actions)).mean[0].numpy()
    same = RandomisedSimulations(robot, RandomisationConfig(members=3, **FIXED), 7)
    found = same.step(np.tile(states, (3, 1, 1)), np.tile(actions, (3, 1, 1)))
    np.testing.assert_allclose(found, np.tile(expected, (3, 1, 1)), rtol=1e-9, atol=1e-12)
    by_state, by_action = same.jacobians(1, states, actions)
    for ours, theirs in zip(
        (by_state, by_action), model.jacobians(*map(torch.from_numpy, (states, actions))), strict=True
    ):
        np.testing.assert_allclose(ours, theirs[0].numpy(), atol=1e-6)
    drawn = RandomisedSimulations(robot, RandomisationConfig(members=3), 7)
    other = drawn.step(np.tile(states, (3, 1, 1)), np.tile(actions, (3, 1, 1)))
    np.testing.assert_allclose(other[0], expected, rtol=1e-9, atol=1e-12)
    assert np.abs(other[1] - other[2]).max() > 1e-3
    again = RandomisedSimulations(robot, RandomisationConfig(members=3), 7)
    np.testing.assert_array_equal(again.step(np.tile(states, (3, 1, 1)), np.tile(actions, (3, 1, 1))), other)


def test_masses_and_contacts_are_drawn_and_nothing_else_is_touched() -> None:
    model = mujoco.MjModel.from_xml_string(BLOCK)
    before = model.body_mass.copy()
    config = RandomisationConfig(mass_spread=0.3, contact_spread=0.0, effort_spread=0.0, damping_spread=0.0,
                                 friction_spread=0.0)  # fmt: skip
    heavier = perturbed(model, config, np.random.default_rng(1))
    factor = heavier.body_mass[1] / model.body_mass[1]
    assert factor != 1.0 and np.array_equal(model.body_mass, before)
    np.testing.assert_allclose(heavier.body_inertia[1] / model.body_inertia[1], factor)
    np.testing.assert_array_equal(heavier.geom_friction, model.geom_friction)

    def slid(version: mujoco.MjModel) -> float:
        data = mujoco.MjData(version)
        data.qvel[0] = 2.0
        for _ in range(40):
            mujoco.mj_step(version, data)
        return float(data.qpos[0])

    rough = dataclasses.replace(config, mass_spread=0.0, friction_spread=0.5)
    versions = [perturbed(model, rough, np.random.default_rng(seed)) for seed in range(4)]
    grip = [version.geom_friction[:, 0].max() for version in versions]
    distance = [slid(version) for version in versions]
    assert np.argsort(grip).tolist() == np.argsort(distance)[::-1].tolist() and np.ptp(distance) > 0.05


def test_the_shared_step_of_one_version_is_that_of_ilqr() -> None:
    here = simulated("cartpole", 12)
    simulations = RandomisedSimulations(here.robot, RandomisationConfig(members=1), 0)
    start = np.array([0.1, 0.4, 0.0, 0.2])
    problem = EnsembleProblem(simulations, here.task, start[None])
    actions = 0.5 * np.sin(np.arange(12.0))[:, None]
    (trajectory,) = problem.rolled_out(actions[None], np.zeros((12, 1, 4)))
    model = make_model("mujoco", {"robot_file": str(CONFIG / "robots" / "cartpole.yaml"), "threads": 1}, here.spec, 0)
    known = ModelObjective(model, here.task, 1, "mean").trajectory_problem(here.spec)
    expansion = known.expand(Trajectory(trajectory.states[0], actions, 0.0), second_order=False)
    unit = np.eye(1) / 3.0**2
    expected = backward_pass(
        expansion,
        stage_penalties(expansion, True),
        actions,
        (problem.lower, problem.upper),
        Regularisation(0.1 * unit, 0.0),
    )
    found = shared_step(problem, trajectory, 0.1)
    assert found is not None
    np.testing.assert_allclose(found[0], expected.offsets, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], expected.gains, rtol=1e-4, atol=1e-4)
    assert expected.curvatures.shape == (12, 1, 1) and (expected.curvatures >= 0.0).all()


def test_versions_differ_and_the_reference_is_their_mean() -> None:
    here = simulated("cartpole", 15)
    simulations = RandomisedSimulations(here.robot, RandomisationConfig(members=4), 1)
    problem = EnsembleProblem(simulations, here.task, np.zeros((4, 4)))
    gains = np.tile([[-0.5, 0.2, -0.1, 0.0]], (15, 1, 1))
    (trajectory,) = problem.rolled_out(np.full((1, 15, 1), 0.8), gains)
    np.testing.assert_allclose(trajectory.reference, trajectory.states.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(trajectory.executed.mean(axis=0), trajectory.actions, atol=1e-9)
    assert np.ptp(trajectory.states[:, -1, 0]) > 1e-2 and np.ptp(trajectory.returns) > 0.0


def test_what_was_planned_for_all_versions_serves_them_better_than_what_was_planned_for_one() -> None:
    spread = {"mass_spread": 0.4, "start_spread": 0.0, "candidates": 8, "steps": 12, "evaluation_rollouts": 1}
    found: dict[int, EnsembleTrajectory] = {}
    for members in (1, 6):
        trainer = make_trainer("trajectory_ensemble", {**spread, "members": members}, simulated("cartpole", 25), 2)
        returns = [trainer.iterate().information["ensemble_return"] for _ in range(2)]
        assert returns[1] >= returns[0]
        found[members] = trainer.trajectory  # type: ignore[attr-defined]
        shared = trainer.problem  # type: ignore[attr-defined]
    (alone,) = shared.rolled_out(found[1].actions[None], found[1].gains)
    assert found[6].mean_return > alone.mean_return
    assert trainer.policy().kind == "time_varying_linear"


def test_training_resumes(tmp_path: Path) -> None:
    whole, first, second = (trainer_of() for _ in range(3))
    progress = [whole.iterate() for _ in range(2)]
    first.iterate()
    save_trainer(tmp_path / "trainer", first)
    second.restore(*load_checkpoint(tmp_path / "trainer"))
    assert second.iterate().mean_return == progress[1].mean_return
    arrays, information = first.state()
    with pytest.raises(CheckpointError, match="expected"):
        second.restore({**arrays, "own/gains": arrays["own/gains"][1:]}, information)


def test_without_feedback_there_are_controls_alone() -> None:
    trainer = trainer_of(feedback=False)
    trainer.iterate()
    assert not trainer.trajectory.gains.any()  # type: ignore[attr-defined]
