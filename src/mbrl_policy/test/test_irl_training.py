# SPDX-License-Identifier: Apache-2.0
"""Guided cost learning as a trainer, on the pendulum in MuJoCo."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from swing_up import shown_by_a_person

from mbrl_core.checkpoint import CheckpointError, load_checkpoint
from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_core.trial import random_controller
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_policy.irl.picture import draw_rewards, most_telling
from mbrl_policy.training import (
    Rollout,
    SimulatedRobot,
    TrainingAlgorithm,
    TrainingInterrupted,
    make_trainer,
    save_trainer,
)

CONFIG = Path(__file__).resolve().parents[3] / "config"
ROBOT_FILE = CONFIG / "robots" / "pendulum.yaml"
PLANNER = {"kind": "icem", "horizon": 6, "iterations": 1, "population_size": 10, "elites": 3, "particles": 5}
QUICK = {
    "horizon": 6, "windows": 2, "samples": 3, "gradient_steps": 5, "candidates": 8, "hidden": [8], "fits": 1,
    "members": 2, "iterations": 4,
}  # fmt: skip
KINDS = ("guided_cost", "adversarial_irl")
STEPS = 20


def robot(steps: int | None = STEPS, **weights: float) -> SimulatedRobot:
    loaded = load_robot(ROBOT_FILE)
    task = task_of_preset(load_preset(CONFIG / "tasks" / f"{loaded.task}.yaml", "task"))
    return SimulatedRobot(loaded, dataclasses.replace(task, weights={**task.weights, **weights}), steps)


def shown(steps: int = STEPS, count: int = 2) -> list[Rollout]:
    here = robot(steps)
    return [here.rollout_controller(shown_by_a_person, seed=100 + index) for index in range(count)]


def known() -> DynamicsModel:
    return make_model("mujoco", {"robot_file": str(ROBOT_FILE), "threads": 1}, robot().spec, 0)


def trainer_of(kind: str = "guided_cost", here: SimulatedRobot | None = None, **sources: Any) -> TrainingAlgorithm:
    given = {"demonstrations": shown(), "planner": PLANNER, "model": known(), **sources}
    return make_trainer(kind, QUICK, here or robot(), 3, **given)


def content(trainer: TrainingAlgorithm) -> bytes:
    reward = trainer.reward()
    assert reward is not None
    return reward.content


@pytest.mark.parametrize("kind", KINDS)
def test_it_makes_a_reward_and_tells_how_near_its_episode_came(kind: str) -> None:
    trainer = trainer_of(kind)
    assert trainer.reward() is None
    progress = [trainer.iterate() for _ in range(3)]
    distances = [each.information["distance"] for each in progress]
    best = int(np.argmin(distances))
    assert progress[-1].information["best_distance"] == distances[best]
    assert trainer.best_return == progress[best].mean_return and progress[-1].rollouts == 3
    reward = trainer.reward()
    assert reward is not None
    reward.check_robot(trainer.robot.spec)
    assert np.isfinite([each.loss for each in progress]).all() == (kind == "guided_cost")


def test_the_robots_own_task_is_not_learned_from() -> None:
    first, second = trainer_of(), trainer_of(here=robot(angle=-7.0, velocity=0.5))
    for _ in range(2):
        one, two = first.iterate(), second.iterate()
    assert one.mean_return != two.mean_return
    assert content(first) == content(second)


@pytest.mark.parametrize("model", [True, False], ids=["known_model", "own_model"])
def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(model: bool, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    sources = {} if model else {"model": None}
    whole, first = trainer_of(**sources), trainer_of(**sources)
    progress = [whole.iterate() for _ in range(3)]
    first.iterate()
    with pytest.raises(TrainingInterrupted):
        first.iterate(lambda: False)
    asked = iter([True] * 12)
    with pytest.raises(TrainingInterrupted):  # in the middle
        first.iterate(lambda: next(asked, False))
    save_trainer(tmp_path / "trainer.safetensors", first)
    # What is resumed goes on with what was shown then, whatever is shown now.
    second = trainer_of(**{**sources, "demonstrations": shown(count=3)})
    second.restore(*load_checkpoint(tmp_path / "trainer.safetensors"))
    later = [second.iterate() for _ in range(2)]
    assert [each.mean_return for each in later] == [each.mean_return for each in progress[1:]]
    assert content(second) == content(whole) and second.best_return == whole.best_return


def test_damaged_checkpoints_are_refused_and_change_nothing() -> None:
    trainer, other = trainer_of(), trainer_of()
    trainer.iterate()
    arrays, information = trainer.state()
    before = other.state()[0]
    for name, value in (
        ("own/learner/model/_learned.head/weight", np.zeros((2, 2))),
        ("own/learner/episode_density", np.zeros(3)),
        ("own/learner/proposals/0/states", np.zeros((1, 7, 2))),
        ("own/shown_states", np.zeros((3, 2))),
        ("reward/content", np.zeros(10, dtype=np.uint8)),
    ):
        assert name in arrays, name
        with pytest.raises(CheckpointError):
            other.restore({**arrays, name: value}, information)
    with pytest.raises(CheckpointError, match="lacks 'reward/content'"):
        other.restore({name: array for name, array in arrays.items() if name != "reward/content"}, information)
    with pytest.raises(CheckpointError, match="trainer's model: got"):
        trainer_of(model=None).restore(arrays, information)
    after = other.state()[0]
    assert all(np.array_equal(before[name], after[name]) for name in before) and other.reward() is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="got no demonstrations, expected one"):
        trainer_of(demonstrations=[])
    with pytest.raises(ConfigurationError, match="got no planner, expected one"):
        trainer_of(planner=None)
    with pytest.raises(ConfigurationError, match="longest of 2 has 5 steps, expected at least a window of 6"):
        trainer_of(demonstrations=shown(5))
    with pytest.raises(ConfigurationError, match="particles"):
        trainer_of(model=None, planner={**PLANNER, "particles": 4})
    other = load_robot(CONFIG / "robots" / "reacher.yaml").spec
    with pytest.raises(ConfigurationError, match="model of interface"):
        trainer_of(model=make_model("ensemble", {}, other, 0))


def test_short_stretches_are_left_out_and_episodes_are_as_long_as_most_of_what_was_shown() -> None:
    examples = [*shown(5, 3), *shown(8, 2), *shown(16)]
    trainer = trainer_of(demonstrations=examples)
    arrays, _ = trainer.state()
    assert arrays["own/shown_actions_lengths"].tolist() == [8, 8, 16, 16]
    trainer.iterate()
    assert trainer.state()[0]["own/learner/episode_actions_lengths"].tolist() == [16]


def test_the_picture_is_of_the_variables_that_matter(tmp_path: Path) -> None:
    here = robot()
    shown_states = [each.states for each in shown()]
    path = draw_rewards(tmp_path / "deep" / "reward.png", here.spec, {"one": here.task, "two": here.task}, shown_states)
    assert path.read_bytes().startswith(b"\x89PNG")
    cartpole = load_robot(CONFIG / "robots" / "cartpole.yaml")
    task = task_of_preset(load_preset(CONFIG / "tasks" / f"{cartpole.task}.yaml", "task"))
    assert most_telling(task, np.random.default_rng(0).normal(0.0, 1.0, (200, 4))) == (0, 1)


@pytest.mark.slow
def test_a_planner_swings_up_by_what_was_learned() -> None:
    torch.set_num_threads(1)
    here = robot(120)
    examples = shown(120, 3)
    preset = load_preset(CONFIG / "trainer" / "guided_cost.yaml", "trainer")
    planner = {**load_preset(CONFIG / "planner" / "icem.yaml", "planner"), "population_size": 40, "iterations": 2}
    trainer = make_trainer(
        "guided_cost",
        {**preset, "iterations": 5},
        here,
        1,
        demonstrations=examples,
        planner=planner,
    )
    for _ in range(5):
        trainer.iterate()
    person = np.mean([each.total_return for each in examples])
    chance = here.rollout_controller(random_controller(here.spec, 0), seed=0).total_return
    assert (trainer.best_return - chance) / (person - chance) > 0.6
