# SPDX-License-Identifier: Apache-2.0
"""Behavioural cloning: heads, held-out demonstrations, and what is refused; on the pendulum in MuJoCo."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbrl_core.checkpoint import load_checkpoint
from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.policies import ChunkPolicy, MixturePolicy, make_policy, policy_arrays
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import task_of_preset
from mbrl_policy.imitation.fit import FitConfig, fit_policy, policy_loss
from mbrl_policy.imitation.labelled import policy_rollout
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.training import (
    Rollout,
    SimulatedRobot,
    TrainingAlgorithm,
    TrainingError,
    TrainingInterrupted,
    make_trainer,
    save_trainer,
)

CONFIG = Path(__file__).resolve().parents[3] / "config"
HEADS = ("mlp", "mixture", "chunks")
SMALL = {"hidden_layers": 1, "hidden_units": 16}
QUICK = {"gradient_steps": 30, "batch_size": 16}


def robot(steps: int = 10) -> SimulatedRobot:
    loaded = load_robot(CONFIG / "robots" / "pendulum.yaml")
    return SimulatedRobot(loaded, task_of_preset(load_preset(CONFIG / "tasks" / f"{loaded.task}.yaml", "task")), steps)


def line(states: Array, actions: Array) -> Rollout:
    """A demonstration whose labels are what matters; rewards are zero."""
    return Rollout(np.concatenate([states, states[-1:]]), actions, actions, np.zeros(len(actions)))


def shown(count: int = 4, steps: int = 12, seed: int = 0) -> list[Rollout]:
    """A teacher whose action is a linear function of the state."""
    random = np.random.default_rng(seed)
    states = random.normal(size=(count, steps, 2)) * np.array([0.5, 1.0])
    return [line(each, np.tanh(0.3 * each[:, :1] - 0.2 * each[:, 1:])) for each in states]


def trainer_of(demonstrations: list[Rollout], head: str = "mlp", seed: int = 0, **settings: Any) -> TrainingAlgorithm:
    policy = {"kind": head, **SMALL}
    return make_trainer(
        "behavioural_cloning", {**QUICK, **settings}, robot(), seed, demonstrations=demonstrations, policy=policy
    )


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_what_was_shown(head: str) -> None:
    """Of a teacher that is a function of the state, no head has anything to be wrong about."""
    demonstrations = shown(6, 40)
    settings: dict[str, Any] = {"gradient_steps": 600, "batch_size": 64, "learning_rate": 0.01, "held_out": 0.2}
    progress = trainer_of(demonstrations, head, **settings).iterate()
    untrained = make_policy(head, SMALL, robot().spec, 0)
    before = policy_loss(untrained, Labels.joined([Labels.of_rollout(each) for each in demonstrations]))
    # States of a demonstration are drawn one by one here: later rows of a chunk cannot be known from the first.
    assert progress.information["held_out_loss"] < (0.9 if head == "chunks" else 0.05) * before


def test_a_mixture_keeps_two_ways_apart_that_a_mean_runs_between() -> None:
    """At an obstacle a teacher steers to either side, 0.7 or -0.7, as often as not."""
    random = np.random.default_rng(0)
    states = random.normal(size=(400, 2)) * np.array([0.1, 0.1])
    sides = np.where(random.random((400, 1)) < 0.6, 0.7, -0.7)
    labels = Labels.of_actions(states, sides + 0.02 * random.normal(size=(400, 1)))
    config = FitConfig(gradient_steps=500, batch_size=128, learning_rate=0.01)
    found = {}
    for head in ("mlp", "mixture"):
        policy = make_policy(head, {**SMALL, "squash": False}, robot().spec, 0)
        fit_policy(policy, labels, config, 0, lambda: True, fresh=True)
        found[head] = policy
    centre = torch.zeros(2)
    assert abs(found["mlp"].mode(centre).item()) < 0.4
    assert found["mixture"].mode(centre).item() == pytest.approx(0.7, abs=0.1)
    torch.manual_seed(0)
    samples = found["mixture"].act(centre).sample((2000,))
    assert samples.gt(0.0).float().mean().item() == pytest.approx(0.6, abs=0.1)
    assert samples.abs().sub(0.7).abs().lt(0.2).float().mean().item() > 0.9


def test_chunks_learn_what_comes_next_as_far_as_it_was_shown() -> None:
    """Actions that are a function of the time since the state: rows are those of their delays."""
    starts = np.linspace(-1.0, 1.0, 30)
    rollouts = []
    for start in starts:
        states = np.stack([start + 0.1 * np.arange(6), np.zeros(6)], axis=1)
        rollouts.append(line(states, 0.5 * np.sin(3.0 * states[:, :1])))
    labels = Labels.joined([Labels.of_rollout(each) for each in rollouts])
    actions, known = labels.chunks(4)
    assert actions.shape == (180, 4, 1) and known[:6].sum(axis=1).tolist() == [4, 4, 4, 3, 2, 1]
    np.testing.assert_array_equal(actions[1, :, 0], labels.actions[1:5, 0])
    np.testing.assert_array_equal(actions[5, :, 0], np.repeat(labels.actions[5], 4))  # never the next episode's
    policy = make_policy("chunks", {**SMALL, "chunk": 4}, robot().spec, 0)
    assert isinstance(policy, ChunkPolicy)
    config = FitConfig(gradient_steps=1500, batch_size=128, learning_rate=0.01)
    fit_policy(policy, labels, config, 0, lambda: True, fresh=True)
    rows = policy.chunk(torch.tensor([0.2, 0.0]))[:, 0].detach().numpy()
    np.testing.assert_allclose(rows, 0.5 * np.sin(3.0 * (0.2 + 0.1 * np.arange(4))), atol=0.05)


def test_chunks_need_labels_that_follow_each_other() -> None:
    single = Labels.joined([Labels.of_actions(np.ones((1, 2)) * index, np.zeros((1, 1))) for index in range(5)])
    policy = make_policy("chunks", SMALL, robot().spec, 0)
    with pytest.raises(ValueError, match="labels: none follows another"):
        fit_policy(policy, single, FitConfig(**QUICK), 0, lambda: True, fresh=True)
    with pytest.raises(TrainingError, match="none follows another"):
        trainer_of([line(np.ones((1, 2)), np.zeros((1, 1)))] * 4, "chunks").iterate()


def test_held_out_demonstrations_are_not_learned_from_and_choose_the_best_fit() -> None:
    demonstrations = shown(5)
    trainer = trainer_of(demonstrations, held_out=0.4)
    progress = [trainer.iterate() for _ in range(4)]
    assert [each.information["labels"] for each in progress] == [3 * 12] * 4
    assert all(math.isnan(each.mean_return) and each.rollouts == 0 for each in progress)
    losses = [each.information["held_out_loss"] for each in progress]
    assert len(set(losses)) == 4  # new weights each time
    index = trainer._held_out(5)  # type: ignore[attr-defined]
    unseen = Labels.joined([Labels.of_rollout(demonstrations[each]) for each in index])
    assert policy_loss(trainer.policy(), unseen) == pytest.approx(min(losses), rel=1e-6)
    # One demonstration is learned from whole, and the newest fit is the policy.
    alone = trainer_of(demonstrations[:1])
    assert math.isnan(alone.iterate().information["held_out_loss"])
    first = policy_arrays(alone.policy())
    alone.iterate()
    assert any(not np.array_equal(first[name], value) for name, value in policy_arrays(alone.policy()).items())


def test_trials_on_the_robot_choose_where_they_are_wanted() -> None:
    trainer = trainer_of(shown(), evaluation="robot", evaluation_rollouts=2)
    progress = [trainer.iterate() for _ in range(3)]
    assert trainer.best_return == max(each.mean_return for each in progress)
    assert progress[-1].rollouts == 6


@pytest.mark.parametrize("head", HEADS)
def test_cloning_that_was_stopped_goes_on_as_if_it_had_not_been(head: str, tmp_path: Path) -> None:
    whole, first, second = (trainer_of(shown(), head) for _ in range(3))
    for _ in range(3):
        whole.iterate()
    first.iterate()
    with pytest.raises(TrainingInterrupted):
        first.iterate(lambda: False)
    save_trainer(tmp_path / "trainer", first)
    second.restore(*load_checkpoint(tmp_path / "trainer"))
    for _ in range(2):
        second.iterate()
    ours, theirs = policy_arrays(second.policy()), policy_arrays(whole.policy())
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_chunks_are_executed_with_what_was_said_before() -> None:
    here = robot(6)
    policy = make_policy("chunks", {**SMALL, "chunk": 3, "ensembling": 0.2, "squash": False}, here.spec, 1)
    assert isinstance(policy, ChunkPolicy)
    with torch.no_grad():
        policy.layers[-1].bias.add_(torch.tensor([0.1, 0.2, 0.3]))  # type: ignore[operator,union-attr]
    rollout = policy_rollout(here, policy, seed=2)
    said = [policy.chunk(torch.from_numpy(state).float()).detach().numpy() for state in rollout.states[:-1]]
    weights = np.exp(-0.2 * np.arange(3))
    np.testing.assert_allclose(rollout.wanted[0], said[0][0], atol=1e-5)
    for step in range(2, 6):
        rows = np.array([said[step - 2][2], said[step - 1][1], said[step][0]])
        np.testing.assert_allclose(rollout.wanted[step], weights @ rows / weights.sum(), atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="got no demonstrations, expected one"):
        trainer_of([])
    with pytest.raises(ConfigurationError, match="got no model, expected one: 'evaluation: model'"):
        trainer_of(shown(), evaluation="model")
    with pytest.raises(ConfigurationError, match="'held_out': got 1"):
        trainer_of(shown(), held_out=1.0)


def test_a_mixtures_loss_is_that_of_what_acts() -> None:
    labels = Labels.of_actions(np.zeros((4, 2)), np.array([[0.5], [0.5], [-0.5], [0.1]]))
    policy = make_policy("mixture", SMALL, robot().spec, 0)
    assert isinstance(policy, MixturePolicy)
    acts = policy.mode(torch.zeros(2)).item()
    half_range = 0.5 * (robot().spec.action.upper[0] - robot().spec.action.lower[0])
    expected = np.mean(((acts - labels.actions) / half_range) ** 2)
    assert policy_loss(policy, labels) == pytest.approx(float(expected), rel=1e-4)
