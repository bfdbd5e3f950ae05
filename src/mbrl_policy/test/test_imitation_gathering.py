# SPDX-License-Identifier: Apache-2.0
"""Noise injection and gated DAgger: who moves the robot, what is labelled; on the pendulum in MuJoCo."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.policies import policy_arrays
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.registry import make_model
from mbrl_policy.imitation.base import ImitationAlgorithm
from mbrl_policy.imitation.gated_dagger import Gate, GatedDaggerConfig
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.imitation.noise_injection import NoiseInjection, actions_of, spread_of
from mbrl_policy.training import SimulatedRobot, TrainingAlgorithm, make_trainer

CONFIG = Path(__file__).resolve().parents[3] / "config"
ROBOT_FILE = CONFIG / "robots" / "pendulum.yaml"
PLANNER = {"kind": "ilqr", "horizon": 6, "iterations": 1, "restarts": 0, "population_size": 2}
QUICK = {"rollouts": 2, "gradient_steps": 20, "batch_size": 16, "evaluation": "none"}
STEPS = 8


def robot() -> SimulatedRobot:
    loaded = load_robot(ROBOT_FILE)
    return SimulatedRobot(loaded, task_of_preset(load_preset(CONFIG / "tasks" / f"{loaded.task}.yaml", "task")), STEPS)


def trainer_of(kind: str, policy: str = "mlp", **settings: Any) -> TrainingAlgorithm:
    here = robot()
    model = make_model("mujoco", {"robot_file": str(ROBOT_FILE), "threads": 1}, here.spec, 0)
    return make_trainer(
        kind, {**QUICK, **settings}, here, 3, model=model, planner=PLANNER, policy={"kind": policy}
    )  # fmt: skip


def test_the_teacher_is_disturbed_and_its_own_action_is_the_label() -> None:
    trainer = trainer_of("noise_injection", initial_noise=0.2, rollouts=6)
    assert isinstance(trainer, NoiseInjection)
    rollouts, labels, told = trainer._gather(lambda: True)
    assert told["noise"] == pytest.approx(0.2)
    spec = trainer.robot.spec
    half_range = 0.5 * (spec.action.upper[0] - spec.action.lower[0])
    noise = np.concatenate(
        [rollout.wanted - said.actions for rollout, said in zip(rollouts, labels, strict=True)]
    )  # fmt: skip
    assert np.std(noise / half_range) == pytest.approx(0.2, rel=0.3)
    for rollout, said in zip(rollouts, labels, strict=True):
        np.testing.assert_array_equal(said.states, rollout.states[:-1])
        assert (said.actions >= spec.action.lower).all() and (said.actions <= spec.action.upper).all()
        assert said.follows is not None and said.follows.tolist() == [False] + [True] * (STEPS - 1)


def test_the_noise_is_what_the_policy_gets_wrong() -> None:
    trainer = trainer_of("noise_injection")
    assert isinstance(trainer, NoiseInjection)
    trainer.iterate()
    assert float(trainer.covariance[0, 0]) == pytest.approx(0.01)  # nobody has erred yet
    network = trainer.network
    before = {name: value.copy() for name, value in policy_arrays(network).items()}
    _, labels, _ = trainer._gather(lambda: True)
    assert all(np.array_equal(before[name], value) for name, value in policy_arrays(network).items())
    joined = Labels.joined(labels)
    half_range = 0.5 * (robot().spec.action.upper[0] - robot().spec.action.lower[0])
    expected = np.mean(((actions_of(network, joined) - joined.actions) / half_range) ** 2)
    assert float(trainer.covariance[0, 0]) == pytest.approx(min(float(expected), 1.0), rel=1e-9)
    scaled = trainer_of("noise_injection", expected_error=0.5)
    scaled.iterate()
    scaled.iterate()
    assert float(scaled.covariance[0, 0]) * STEPS == pytest.approx(0.5)  # type: ignore[attr-defined]
    bounded = trainer_of("noise_injection", most_noise=1e-3)
    bounded.iterate()
    bounded.iterate()
    assert float(bounded.covariance[0, 0]) <= 1.0001e-6  # type: ignore[attr-defined]


def test_a_spread_is_a_root_of_its_covariance() -> None:
    root = np.random.default_rng(0).normal(size=(3, 2))
    for covariance in (root @ root.T, np.zeros((2, 2))):
        found = spread_of(covariance)
        np.testing.assert_allclose(found @ found.T, covariance, atol=1e-12)


def test_a_checkpoint_without_its_noise_is_refused() -> None:
    trainer = trainer_of("noise_injection")
    trainer.iterate()
    arrays, information = trainer.state()
    with pytest.raises(CheckpointError, match="noise_covariance is"):
        trainer.restore({**arrays, "own/noise_covariance": np.full((1, 1), np.nan)}, information)
    with pytest.raises(CheckpointError, match="lacks 'noise_covariance'"):
        trainer.restore({name: each for name, each in arrays.items() if "noise" not in name}, information)


def test_a_gate_closes_above_and_opens_below_with_time_between() -> None:
    gate = Gate(GatedDaggerConfig(takeover=0.5, release=0.2, least_steps=3), np.array([2.0, 1.0]))
    far, near, between = np.array([0.0, 0.6]), np.array([0.1, 0.0]), np.array([0.7, 0.0])
    assert [gate.closes(action, np.zeros(2)) for action in (near, between, far)] == [False, False, True]
    assert [gate.closes(near, np.zeros(2)) for _ in range(3)] == [True, True, False]
    assert gate.closes(far, np.zeros(2))
    assert [gate.closes(between, np.zeros(2)) for _ in range(5)] == [True] * 5
    assert gate.interventions == 2


@pytest.mark.parametrize(("takeover", "share"), [(0.0, 1.0), (10.0, 0.0)])
def test_the_gate_says_who_moves_the_robot_and_what_is_learned(takeover: float, share: float) -> None:
    trainer = trainer_of("gated_dagger", takeover=takeover, release=0.0)
    assert isinstance(trainer, ImitationAlgorithm)
    assert trainer.iterate().information["teacher_share"] == 1.0  # there is no policy yet
    rollouts, labels, told = trainer._gather(lambda: True)
    assert told["teacher_share"] == share
    policy = trainer.network.fast()
    for rollout, said in zip(rollouts, labels, strict=True):
        own = np.array([policy.action(state, step) for step, state in enumerate(rollout.states[:-1])])
        assert len(said) == share * STEPS
        np.testing.assert_allclose(rollout.wanted, said.actions if share else own, atol=1e-6)


def test_only_the_teachers_steps_are_labels_and_its_stretches_are_known() -> None:
    settings = {"takeover": 0.1, "release": 0.08, "least_steps": 2, "rollouts": 6, "gradient_steps": 100}
    trainer = trainer_of("gated_dagger", **settings)
    assert isinstance(trainer, ImitationAlgorithm)
    trainer.iterate()
    rollouts, labels, told = trainer._gather(lambda: True)
    assert 0.0 < told["teacher_share"] < 1.0 and told["interventions"] >= 1.0
    for rollout, said in zip(rollouts, labels, strict=True):
        np.testing.assert_array_equal(said.states, rollout.states[said.steps])
        np.testing.assert_array_equal(said.actions, rollout.wanted[said.steps])
        expected = np.diff(said.steps, prepend=-5) == 1
        assert said.follows is not None and said.follows.tolist() == expected.tolist()


def test_chunks_are_for_those_whose_teacher_moves_the_robot() -> None:
    for kind in ("noise_injection", "gated_dagger"):
        progress = [trainer_of(kind, "chunks").iterate() for _ in range(2)][-1]
        assert np.isfinite(progress.loss)
    for kind in ("dagger", "plato", "noisy_teacher"):
        with pytest.raises(ConfigurationError, match="'policy.kind': got 'chunks' for trainer"):
            trainer_of(kind, "chunks")
    with pytest.raises(ConfigurationError, match="'release': got 0.5, expected at most 'takeover', 0.3"):
        trainer_of("gated_dagger", release=0.5)


def test_presets_are_what_the_kinds_take() -> None:
    from mbrl_policy.training import TRAINERS

    for kind in ("behavioural_cloning", "noise_injection", "gated_dagger"):
        preset = load_preset(CONFIG / "trainer" / f"{kind}.yaml", "trainer")
        assert preset["kind"] == kind
        TRAINERS.configure(kind, preset)
