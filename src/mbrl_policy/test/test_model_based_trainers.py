# SPDX-License-Identifier: Apache-2.0
"""Backpropagation and stochastic value gradients: that they learn, stop, resume and refuse."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbrl_core.checkpoint import CheckpointError, load_checkpoint
from mbrl_core.config import ConfigurationError, from_mapping, load_preset
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.tasks import make_task
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_policy.training import (
    TRAINERS,
    SimulatedRobot,
    TrainingAlgorithm,
    TrainingInterrupted,
    make_trainer,
    save_trainer,
    transitions_of,
)
from mbrl_policy.training.backprop import ImaginedEpisodes

torch.set_num_threads(1)
CONFIG = Path(__file__).resolve().parents[3] / "config"
SHORT = {"value_units": 16, "fits": 1, "batch_size": 16}
ONE = {"discount": 0.95, "initial_rollouts": 4, "policy_learning_rate": 3e-4}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "backprop": ("backprop", {**SHORT, "first_updates": 6, "updates": 4, "horizon": 4}),
    "one": ("svg", {**SHORT, "updates": 8, "target_interval": 3}),
    "infinity": ("svg", {"value_units": 16, "fits": 1, "variant": "infinity"}),
}


def machine() -> Robot:
    """A pendulum that is thrown: it begins with speed."""
    robot = load_robot(CONFIG / "robots" / "pendulum.yaml")
    return dataclasses.replace(robot, start=dataclasses.replace(robot.start, velocity_mean=(3.0,), velocity_std=(0.3,)))


def robot(steps: int = 30) -> SimulatedRobot:
    """Its task is to come to rest below."""
    return SimulatedRobot(machine(), make_task("pendulum_upright", (0.0,)), steps)


def model() -> DynamicsModel:
    sizes = {"hidden_size": 24, "first_steps": 120, "refit_steps": 40}
    return make_model("ensemble", sizes, machine().spec, 0)


def trainer(name: str, seed: int = 3, steps: int = 30, **parameters: Any) -> TrainingAlgorithm:
    kind, values = KINDS[name]
    policy = {"kind": "mlp", "hidden_layers": 1, "hidden_units": 16}
    return make_trainer(kind, {**values, **parameters}, robot(steps), seed, model=model(), policy=policy)


def same(first: TrainingAlgorithm, second: TrainingAlgorithm) -> bool:
    ours, theirs = first.state(), second.state()
    return ours[1] == theirs[1] and all(
        np.array_equal(ours[0][name], value, equal_nan=value.dtype.kind == "f") for name, value in theirs[0].items()
    )


@pytest.mark.parametrize("name", KINDS)
def test_a_trainer_that_was_stopped_goes_on_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    whole, first = trainer(name), trainer(name)
    for _ in range(3):
        whole.iterate()
    first.iterate()
    save_trainer(tmp_path / "trainer.safetensors", first)
    second = trainer(name)
    second.restore(*load_checkpoint(tmp_path / "trainer.safetensors"))
    second.iterate()
    before = second.state()
    asked = iter([True] * 3)
    with pytest.raises(TrainingInterrupted):
        second.iterate(lambda: next(asked, False))
    third = trainer(name)
    third.restore(*before)
    assert same(second, third)
    second.iterate()
    assert same(second, whole)
    assert second.rollouts == 4 and second.best_return == max(whole.best_return, -1e9)


@pytest.mark.parametrize(
    ("name", "iterations", "parameters"),
    [
        ("backprop", 2, {"first_updates": 120, "updates": 60, "horizon": 8, "policy_learning_rate": 3e-3}),
        ("one", 3, {"updates": 400, "batch_size": 64, "value_learning_rate": 3e-3, "target_interval": 10, **ONE}),
        ("infinity", 20, {"policy_learning_rate": 3e-2, "rollouts_per_iteration": 2}),
    ],
)
def test_a_thrown_pendulum_learns_to_come_to_rest(name: str, iterations: int, parameters: dict[str, Any]) -> None:
    steps = 60
    learned = trainer(name, steps=steps, **parameters)
    free = np.mean([robot(steps).rollout(learned.new_policy(), seed=seed).total_return for seed in range(5)])
    for _ in range(iterations):
        progress = learned.iterate()
    assert np.isfinite(progress.mean_return)
    found = np.mean([robot(steps).rollout(learned.policy(), seed=seed).total_return for seed in range(5)])
    assert found > 0.5 * free, f"got {found:.2f}, expected above half of the untrained policy's {free:.2f}"


@pytest.mark.parametrize("name", KINDS)
def test_data_that_is_given_takes_the_place_of_exploration(name: str) -> None:
    source = trainer(name)
    source.iterate()
    kind, values = KINDS[name]
    data = transitions_of([robot().rollout(source.new_policy(), seed=index, sampled=True) for index in range(2)])
    given = make_trainer(kind, values, robot(), 0, model=model(), dataset=data)
    assert given.iterate().rollouts == 1
    assert len(given.data) == len(data) + 30
    np.testing.assert_array_equal(given.data.state[: len(data)], data.state)
    np.testing.assert_array_equal(given.data.episode, np.repeat([0, 1, 2], 30))


def test_without_rollouts_the_policy_is_trained_from_the_data_alone() -> None:
    for name in ("backprop", "one"):
        offline = trainer(name, rollouts_per_iteration=0)
        progress = [offline.iterate() for _ in range(3)]
        assert progress[-1].rollouts == 1  # the one of exploration
        assert offline.best_return == max(one.mean_return for one in progress)
        real = np.mean([robot().rollout(offline.current, seed=seed).total_return for seed in range(5)])
        assert progress[-1].mean_return == pytest.approx(real, rel=0.3)
    with pytest.raises(ConfigurationError, match="'rollouts_per_iteration': got 0, expected at least 1"):
        trainer("infinity", rollouts_per_iteration=0)


def test_imagined_episodes_go_on_and_begin_anew() -> None:
    generator = torch.Generator().manual_seed(0)
    own = robot(steps=10)
    episodes = ImaginedEpisodes(own, 4, torch.ones(2), generator)
    episodes._ages[:] = torch.tensor([0, 0, 8, 0])
    states = torch.zeros(6, 3, 4, 2)
    states[:, :, -1] = torch.arange(6.0).view(6, 1, 1)
    states[1, :, -1, 1] = torch.nan
    states[3, :, -1, 0] = 1e6
    episodes.go_on(states)
    # The first goes on; so does the last, whose turns are no distance; the second is lost and the third is over.
    assert episodes.states[0].tolist() == [0.0, 0.0] and episodes.states[3].tolist() == [1e6, 3.0]
    assert episodes._ages.tolist() == [3, 0, 0, 3]
    assert ((episodes.states[1:3, 1] - 3.0).abs() < 2.0).all()


def test_presets_are_what_the_kinds_take() -> None:
    for kind in ("backprop", "svg"):
        preset = load_preset(CONFIG / "trainer" / f"{kind}.yaml", "trainer")
        assert preset.pop("kind") == kind
        from_mapping(TRAINERS.get(kind).configuration, preset)


def test_what_does_not_fit_is_refused() -> None:
    other = load_robot(CONFIG / "robots" / "cartpole.yaml").spec
    with pytest.raises(ConfigurationError, match="model of interface .* of robot 'pendulum'"):
        make_trainer("svg", {}, robot(), 0, model=make_model("ensemble", {}, other, 0))
    with pytest.raises(ConfigurationError, match="policy of kind 'time_varying_linear'"):
        make_trainer("svg", {}, robot(), 0, policy={"kind": "time_varying_linear"})
    with pytest.raises(ConfigurationError, match="particles: got 7, expected a multiple of the model's 5"):
        make_trainer("backprop", {"particles": 7}, robot(), 0)
    with pytest.raises(ConfigurationError, match="'variant': got 'two', expected one of one, infinity"):
        make_trainer("svg", {"variant": "two"}, robot(), 0)
    cartpole = SimulatedRobot(load_robot(CONFIG / "robots" / "cartpole.yaml"), make_task("cartpole_tip"), 5)
    data = transitions_of([cartpole.rollout(make_trainer("svg", {}, cartpole, 0).new_policy())])
    with pytest.raises(ConfigurationError, match="dataset of 4 states and 1 actions, expected 2 and 1"):
        make_trainer("backprop", {}, robot(), 0, dataset=data)


def test_a_damaged_checkpoint_is_refused() -> None:
    source = trainer("backprop")
    source.iterate()
    arrays, information = source.state()
    name = "own/value/layers.0.weight"
    with pytest.raises(CheckpointError, match=r"value/layers.0.weight' is missing"):
        trainer("backprop").restore({key: value for key, value in arrays.items() if key != name}, information)
    with pytest.raises(CheckpointError, match="all finite"):
        trainer("backprop").restore({**arrays, name: np.full_like(arrays[name], np.nan)}, information)
    policy = {"kind": "mlp", "hidden_layers": 1, "hidden_units": 16}
    other = make_model("ensemble", {"hidden_size": 8}, machine().spec, 0)
    smaller = make_trainer("backprop", KINDS["backprop"][1], robot(), 3, model=other, policy=policy)
    with pytest.raises(CheckpointError, match="trainer's model"):
        smaller.restore(arrays, information)
