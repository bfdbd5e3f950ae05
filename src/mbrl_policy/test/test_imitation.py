# SPDX-License-Identifier: Apache-2.0
"""Labels, the fit, and the algorithms that imitate a planner, on the pendulum in MuJoCo."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbrl_core.checkpoint import CheckpointError, load_checkpoint
from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_core.policies import make_policy, policy_arrays
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_policy.imitation.base import ImitationAlgorithm
from mbrl_policy.imitation.fit import FitConfig, fit_policy
from mbrl_policy.imitation.labelled import imagined_returns
from mbrl_policy.imitation.labels import LabelBook, Labels
from mbrl_policy.imitation.teacher import Teacher
from mbrl_policy.training import (
    SimulatedRobot,
    TrainingAlgorithm,
    TrainingInterrupted,
    make_trainer,
    save_trainer,
)
from mbrl_policy.training.predictive_teacher import planner_of

CONFIG = Path(__file__).resolve().parents[3] / "config"
ROBOT_FILE = CONFIG / "robots" / "pendulum.yaml"
PLANNER = {"kind": "ilqr", "horizon": 6, "iterations": 1, "restarts": 0, "population_size": 2}
QUICK = {"rollouts": 2, "gradient_steps": 20, "batch_size": 16, "evaluation_rollouts": 2}
KINDS = ("dagger", "plato", "noisy_teacher", "noise_injection", "gated_dagger")
STEPS = 8


def robot(steps: int = STEPS) -> SimulatedRobot:
    loaded = load_robot(ROBOT_FILE)
    return SimulatedRobot(loaded, task_of_preset(load_preset(CONFIG / "tasks" / f"{loaded.task}.yaml", "task")), steps)


def known() -> DynamicsModel:
    return make_model("mujoco", {"robot_file": str(ROBOT_FILE), "threads": 1}, robot().spec, 0)


def trainer_of(kind: str, seed: int = 3, **settings: Any) -> TrainingAlgorithm:
    return make_trainer(kind, {**QUICK, **settings}, robot(), seed, model=known(), planner=PLANNER)


def line_of_labels(count: int = 200) -> tuple[Labels, Array]:
    """u = K x known along one line of states alone, with its gains."""
    gain = np.array([[0.12, -0.05]])
    states = np.linspace(-1.0, 1.0, count)[:, None] * np.array([[0.0, 2.0]]) + np.array([[0.4, 0.0]])
    labels = Labels(
        states, np.zeros(count, int), states @ gain.T, np.tile(gain, (count, 1, 1)), np.tile(np.eye(1), (count, 1, 1))
    )
    return labels, gain


def test_labels_of_other_shapes_cannot_be_made_and_arrays_give_them_back() -> None:
    labels, _ = line_of_labels(5)
    again = Labels.from_arrays(labels.arrays())
    assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(labels).items())
    assert len(Labels.joined([Labels.none(robot().spec), labels, labels])) == 10
    for changed in ({"actions": labels.actions[1:]}, {"gains": labels.gains * np.nan}, {"steps": labels.steps[:2]}):
        with pytest.raises(ValueError, match=f"labels {next(iter(changed))}"):
            dataclasses.replace(labels, **changed)
    book = LabelBook()
    book.add(TimeStep(1, 4, StepType.MID, np.array([0.1, 0.2]), np.zeros(1)), np.array([0.5]))
    assert book.labels().steps.tolist() == [4] and book.labels().precisions.tolist() == [[[1.0]]]


def test_a_fit_finds_a_linear_law_and_its_noise() -> None:
    random, gain = np.random.default_rng(0), np.array([[0.0, -0.2]])
    states = random.normal(size=(400, 2))
    actions = 0.1 + states @ gain.T + 0.05 * random.normal(size=(400, 1))
    labels = Labels(states, np.zeros(400, int), actions, np.zeros((400, 1, 2)), np.tile(np.eye(1), (400, 1, 1)))
    policy = make_policy("linear", {"squash": False, "covariance": "diagonal"}, robot().spec, 0)
    loss = fit_policy(policy, labels, FitConfig(gradient_steps=600, learning_rate=0.05), 0, lambda: True, fresh=True)
    assert loss == pytest.approx(0.0025, rel=0.15)
    local = policy.linearise(torch.tensor([0.3, 0.4]))
    assert float(local.action) == pytest.approx(0.1 - 0.08, abs=0.02)
    assert float(local.covariance.sqrt()) == pytest.approx(0.05, rel=0.1)


def test_gains_teach_what_to_do_beside_the_trajectory() -> None:
    """Two states never vary together on the line: only noisy copies say what the other direction needs."""
    labels, gain = line_of_labels()
    learned = []
    for noise in (0.0, 0.3):
        policy = make_policy("mlp", {"squash": False, "hidden_units": 16, "covariance": "diagonal"}, robot().spec, 1)
        # The angle itself varies along the line for its noise to have a scale.
        moved = dataclasses.replace(labels, states=labels.states + np.array([[0.3, 0.0]]) * labels.states[:, 1:])
        moved = dataclasses.replace(moved, actions=moved.states @ gain.T)
        config = FitConfig(gradient_steps=400, label_noise=noise, batch_size=128, learning_rate=0.01)
        fit_policy(policy, moved, config, 0, lambda: True, fresh=True)
        off = torch.tensor([[0.9, -0.5], [0.0, 0.5]])
        error = policy.mode(off)[:, 0] - off @ torch.from_numpy(gain[0]).float()
        learned.append(float(error.detach().abs().max()))
    assert learned[1] < 0.5 * learned[0]


def test_a_fit_asks_whether_to_go_on_and_refuses_too_little() -> None:
    labels, _ = line_of_labels(10)
    policy = make_policy("linear", {}, robot().spec, 0)
    with pytest.raises(TrainingInterrupted):
        fit_policy(policy, labels, FitConfig(), 0, lambda: False, fresh=True)
    with pytest.raises(ValueError, match="got 0, expected at least 2"):
        fit_policy(policy, Labels.none(robot().spec), FitConfig(), 0, lambda: True, fresh=True)


def test_mixing_says_who_acts() -> None:
    """beta = 1 executes labels alone, beta = 0 the policy alone, in every later iteration by the schedule."""
    trainer = trainer_of("dagger", mixing_decay=0.0)
    assert isinstance(trainer, ImitationAlgorithm)
    rollouts, labels, told = trainer._gather(lambda: True)
    assert told == {"mixing": 1.0}
    np.testing.assert_array_equal(
        np.concatenate([rollout.actions for rollout in rollouts]), Labels.joined(labels).actions
    )
    trainer.iterate()
    rollouts, labels, told = trainer._gather(lambda: True)
    assert told == {"mixing": 0.0}
    policy = trainer.network.fast()
    for rollout, said in zip(rollouts, labels, strict=True):
        own = [policy.action(state, step) for step, state in enumerate(rollout.states[:-1])]
        np.testing.assert_allclose(rollout.wanted, np.array(own))
        assert np.abs(said.actions - rollout.wanted).max() > 1e-3
        np.testing.assert_array_equal(said.states, rollout.states[:-1])
    slow = trainer_of("dagger", mixing=0.8, mixing_decay=0.5)
    slow.iteration = 3
    assert slow.share == pytest.approx(0.1)  # type: ignore[attr-defined]


def test_plato_labels_with_the_plain_planner_and_executes_between_it_and_the_policy() -> None:
    light, heavy = (
        trainer_of("plato", divergence_weight=weight, sampled=False, temperature=0.01) for weight in (1e-6, 1e6)
    )
    for trainer in (light, heavy):
        trainer.iterate()
        assert isinstance(trainer, ImitationAlgorithm)
        rollouts, labels, _ = trainer._gather(lambda: True)
        policy = trainer.network.fast()
        own = np.array([policy.action(state, step) for step, state in enumerate(rollouts[0].states[:-1])])
        expected = labels[0].actions if trainer is light else own
        np.testing.assert_allclose(rollouts[0].wanted, expected, atol=2e-3)
        assert np.abs(own - labels[0].actions).max() > 0.01
        assert (labels[0].precisions > 0.0).all()


def test_lambda_follows_the_divergence_where_it_has_a_target() -> None:
    trainer = trainer_of("plato", target_divergence=1e-9)
    trainer.iterate()
    assert trainer.divergence_weight == 1.0  # type: ignore[attr-defined]  # no policy yet, no divergence
    progress = trainer.iterate()
    assert progress.kl > 1e-9 and trainer.divergence_weight == 2.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_training_that_was_stopped_goes_on_as_if_it_had_not_been(kind: str, tmp_path: Path) -> None:
    whole, first, second = (trainer_of(kind) for _ in range(3))
    progress = [whole.iterate() for _ in range(3)]
    assert all(np.isfinite(each.mean_return) and each.loss >= 0.0 for each in progress)
    labels = progress[-1].information["labels"]
    assert labels <= 3 * 2 * STEPS if kind == "gated_dagger" else labels == 3 * 2 * STEPS
    first.iterate()
    with pytest.raises(TrainingInterrupted):
        first.iterate(lambda: False)
    save_trainer(tmp_path / "trainer", first)
    second.restore(*load_checkpoint(tmp_path / "trainer"))
    later = [second.iterate() for _ in range(2)]
    assert [each.mean_return for each in later] == [each.mean_return for each in progress[1:]]
    ours, theirs = policy_arrays(second.policy()), policy_arrays(whole.policy())
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    arrays, information = first.state()
    with pytest.raises(CheckpointError, match="labels"):
        second.restore({name: values for name, values in arrays.items() if name != "own/labels/gains"}, information)
    with pytest.raises(CheckpointError, match="labels"):
        second.restore({**arrays, "own/labels/gains": arrays["own/labels/gains"][1:]}, information)


def test_demonstrations_are_labels_to_begin_with() -> None:
    here, model = robot(), known()
    teacher = Teacher(planner_of(PLANNER, here.spec, model, here.task, 0))
    shown = here.rollout_controller(lambda step: Plan(teacher.advice(step).action[None]), seed=5)
    sources: dict[str, Any] = {"model": model, "planner": PLANNER, "demonstrations": [shown]}
    trainer = make_trainer("plato", QUICK, here, 0, **sources)
    progress = trainer.iterate()
    assert progress.information["labels"] == 3 * STEPS
    assert np.isfinite(progress.kl)  # a policy to come to meet from the first iteration on


def test_what_does_not_fit_is_refused() -> None:
    here, model = robot(), known()
    with pytest.raises(ConfigurationError, match="got no planner"):
        make_trainer("dagger", QUICK, here, 0, model=model)
    with pytest.raises(ConfigurationError, match="got no model"):
        make_trainer("dagger", QUICK, here, 0, planner=PLANNER)
    with pytest.raises(ConfigurationError, match="'planner.kind': got 'icem', expected 'ilqr' or 'ddp'"):
        make_trainer("plato", QUICK, here, 0, model=model, planner={"kind": "icem"})
    searching = {"kind": "cem", "horizon": 3, "iterations": 1, "population_size": 4, "elites": 2}
    with pytest.raises(ConfigurationError, match="'planner.kind': got 'cem'"):
        make_trainer("noisy_teacher", QUICK, here, 0, model=model, planner=searching).iterate()
    with pytest.raises(ConfigurationError, match="mixing"):
        make_trainer("dagger", {"mixing": 1.5}, here, 0, model=model, planner=PLANNER)


@pytest.mark.parametrize("planner", [
    {"kind": "cem", "horizon": 3, "iterations": 1, "population_size": 8, "elites": 2},
    {"kind": "mppi", "horizon": 3, "iterations": 1, "population_size": 8},
    {"kind": "lqr", "horizon": 3, "iterations": 1},
])  # fmt: skip
def test_any_planner_and_any_policy_will_do(planner: dict[str, Any]) -> None:
    policy = {"kind": "rbf", "basis_functions": 8, "observed": ["pivot_velocity"]}
    trainer = make_trainer("dagger", QUICK, robot(), 0, model=known(), planner=planner, policy=policy)
    for _ in range(2):
        trainer.iterate()
    learned = trainer.policy()
    seen = learned.mode(torch.tensor([[0.0, 0.2], [3.0, 0.2]]))
    assert learned.kind == "rbf" and torch.equal(seen[0], seen[1])


def test_imagined_returns_are_those_of_the_robot() -> None:
    here = robot()
    policy = make_policy("mlp", {}, here.spec, 4)
    starts = np.stack([here.drawn_start(seed) for seed in range(3)])
    real = [here.rollout(policy, start).total_return for start in starts]
    np.testing.assert_allclose(imagined_returns(policy, known(), here.task, starts, STEPS), real, rtol=1e-5)
