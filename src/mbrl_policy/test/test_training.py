# SPDX-License-Identifier: Apache-2.0
"""Rollouts in process, and what every training algorithm has in common."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbrl_core.checkpoint import CheckpointError, load_checkpoint
from mbrl_core.config import ConfigurationError, load_preset, parameter
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.policies import Policy, TimeVaryingLinearPolicy, make_policy, policy_arrays
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_core.trial import random_controller, run_trial
from mbrl_policy.training import (
    TRAINERS,
    Progress,
    Rollout,
    RolloutError,
    SimulatedRobot,
    TrainerConfig,
    TrainingAlgorithm,
    TrainingError,
    TrainingInterrupted,
    make_trainer,
    save_trainer,
    transitions_of,
)
from mbrl_policy.training.algorithm import KeepGoing
from mbrl_policy.training.kinds import MODULES
from mbrl_policy.training.rollouts import action_noise
from mbrl_robot.simulation import MujocoSimulation

CONFIG = Path(__file__).resolve().parents[3] / "config"
STEPS = 12


def robot(name: str = "pendulum", steps: int | None = STEPS) -> SimulatedRobot:
    loaded = load_robot(CONFIG / "robots" / f"{name}.yaml")
    return SimulatedRobot(loaded, task_of_preset(load_preset(CONFIG / "tasks" / f"{loaded.task}.yaml", "task")), steps)


@dataclass(frozen=True)
class SearchConfig(TrainerConfig):
    """Of a search that is only here."""

    std: float = parameter(0.3, "of the changes", minimum=0.0)


class RandomSearch(TrainingAlgorithm):
    """Changes a linear policy at random and keeps what is better: the least that trains something."""

    kind = "test_random_search"
    needs = ("demonstrations",)

    def __init__(self, config: SearchConfig, robot: SimulatedRobot, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        self.weights = self.new_policy()

    def _iterate(self, keep_going: KeepGoing) -> Progress:
        trial = self.new_policy()
        trial.load_state_dict(self.weights.state_dict())
        with torch.no_grad():
            for index, values in enumerate(trial.parameters()):
                noise = self.random("change", index).normal(0.0, self.config.std, tuple(values.shape))
                values.add_(torch.from_numpy(noise).float())
        self.weights = trial
        if not keep_going():
            raise TrainingInterrupted
        rollout = self.robot.rollout(trial, seed=self.rollout_seed(0), sampled=True)
        self.rollouts += 1
        self._consider(trial, rollout.total_return)
        return Progress(0, rollout.total_return)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return policy_arrays(self.weights), {}

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        self.weights.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind's name, registered for one test."""
    TRAINERS.names()
    monkeypatch.setattr(TRAINERS, "_entries", dict(TRAINERS._entries))
    TRAINERS.register(RandomSearch.kind, SearchConfig)(RandomSearch)
    return RandomSearch.kind


def demonstration() -> Rollout:
    here = robot()
    return here.rollout_controller(random_controller(here.spec, 3), seed=3)


SOURCES = {"demonstrations": [demonstration()], "policy": {"kind": "linear"}}


def same(first: Policy, second: Policy) -> bool:
    ours, theirs = policy_arrays(first), policy_arrays(second)
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ["pendulum", "cartpole", "reacher", "acrobot"])
def test_a_rollout_is_what_a_trial_of_the_robots_simulation_is(name: str) -> None:
    here = robot(name, steps=40)
    start = here.drawn_start(5)
    rollout = here.rollout_controller(random_controller(here.spec, 3), start, seed=5)

    class Backend(MujocoSimulation):
        def reset(self, _: object) -> np.ndarray:
            return super().reset(start)

    trial = run_trial(Backend(here.robot), random_controller(here.spec, 3), here.task, here.spec, 40, episode=5)
    np.testing.assert_array_equal(rollout.states, trial.state)
    np.testing.assert_array_equal(rollout.actions, trial.action)
    np.testing.assert_array_equal(rollout.rewards, trial.reward)
    assert len(transitions_of([rollout, rollout])) == 80


@pytest.mark.parametrize("kind", ["mlp", "linear", "time_varying_linear"])
def test_noise_is_that_of_the_seed_and_limits_come_after_what_is_wanted(kind: str) -> None:
    here = robot()
    policy = make_policy(kind, {"initial_std": 2.0}, here.spec, 0)
    first, again = (here.rollout(policy, seed=4, sampled=True) for _ in range(2))
    np.testing.assert_array_equal(first.states, again.states)
    assert not np.array_equal(first.wanted, here.rollout(policy, seed=5, sampled=True).wanted)
    silent = here.rollout(policy, seed=4)
    np.testing.assert_allclose(silent.wanted[0], policy.mode(torch.zeros(2), 0).detach().numpy(), atol=0.02)
    np.testing.assert_array_equal(first.actions, np.clip(first.wanted, here.spec.action.lower, here.spec.action.upper))
    if not policy.squash:
        noise = 2.0 * action_noise(4, STEPS, 1)
        np.testing.assert_allclose(first.wanted[0] - silent.wanted[0], noise[0], atol=1e-6)
        assert (first.wanted != first.actions).any()


def test_a_start_is_exact_or_drawn_and_one_out_of_reach_is_refused() -> None:
    here = robot("cartpole")
    policy = make_policy("linear", {}, here.spec, 0)
    start = np.array([0.2, 3.5, -0.1, 0.4])
    np.testing.assert_allclose(here.rollout(policy, start, start_index=3).states[0], start)
    np.testing.assert_array_equal(here.rollout(policy, seed=8).states[0], here.drawn_start(8))
    with pytest.raises(RolloutError, match=r"slider_position 3 is out of reach.*-2.5 to 2.5"):
        here.rollout(policy, np.array([3.0, 0.0, 0.0, 0.0]))
    for bad in (np.zeros(3), np.array([0.0, np.nan, 0.0, 0.0])):
        with pytest.raises(ValueError, match="start: got .* expected 4 finite numbers"):
            here.rollout(policy, bad)


def test_policies_and_controllers_that_do_not_fit_are_refused() -> None:
    here = robot()
    with pytest.raises(ValueError, match="horizon of 5 steps, expected at least 12"):
        here.rollout(make_policy("time_varying_linear", {"horizon": 5}, here.spec, 0))
    with pytest.raises(ValueError, match="interface"):
        here.rollout(make_policy("linear", {}, robot("reacher").spec, 0))
    with pytest.raises(ValueError, match="steps: got 0"):
        here.rollout(make_policy("linear", {}, here.spec, 0), steps=0)

    def broken(time_step: TimeStep) -> Plan:
        return Plan(np.full((1, 1), np.nan if time_step.step == 3 else 0.0))

    with pytest.raises(RolloutError, match="action of step 3"):
        here.rollout_controller(broken)
    with pytest.raises(ConfigurationError, match="reacher"):
        SimulatedRobot(robot("reacher").robot, here.task)


def test_rollouts_of_other_shapes_cannot_be_made() -> None:
    good = demonstration()
    for changed in ({"states": good.states[:-1]}, {"wanted": good.wanted[1:]}, {"rewards": good.rewards * np.nan}):
        with pytest.raises(ValueError, match=f"rollout {next(iter(changed))}"):
            dataclasses.replace(good, **changed)
    with pytest.raises(ValueError, match="got none"):
        transitions_of([])


def test_a_policy_with_feedback_about_turns_is_rolled_out() -> None:
    here = robot()
    states = np.tile([2.0 * np.pi, 0.0], (STEPS, 1))
    gains = np.tile([-1.0, -0.1], (STEPS, 1, 1))
    law = TimeVaryingLinearPolicy.from_arrays(here.spec, np.zeros((STEPS, 1)), gains, states)
    start = np.array([0.3, 0.0])
    np.testing.assert_allclose(here.rollout(law, start).wanted[0], [-0.3], atol=1e-6)


def test_a_trainer_that_was_stopped_goes_on_as_if_it_had_not_been(search: str, tmp_path: Path) -> None:
    def fresh() -> TrainingAlgorithm:
        return make_trainer(search, {"std": 0.5}, robot(), 7, **SOURCES)

    whole, first = fresh(), fresh()
    progress = [whole.iterate() for _ in range(6)]
    assert [each.iteration for each in progress] == [1, 2, 3, 4, 5, 6] and progress[-1].rollouts == 6
    assert len({each.mean_return for each in progress}) == 6
    assert whole.best_return == max(each.mean_return for each in progress)
    for _ in range(3):
        first.iterate()
    save_trainer(tmp_path / "trainer.safetensors", first)
    second = fresh()
    second.restore(*load_checkpoint(tmp_path / "trainer.safetensors"))
    later = [second.iterate() for _ in range(3)]
    assert [each.mean_return for each in later] == [each.mean_return for each in progress[3:]]
    assert same(second.policy(), whole.policy()) and second.best_return == whole.best_return


def test_an_iteration_that_is_stopped_leaves_everything_as_it_was(search: str) -> None:
    trainer = make_trainer(search, {}, robot(), 7, **SOURCES)
    with pytest.raises(TrainingError, match="before the first iteration"):
        trainer.policy()
    trainer.iterate()
    arrays, information = trainer.state()
    with pytest.raises(TrainingInterrupted):
        trainer.iterate(lambda: False)
    after, told = trainer.state()
    assert told == information and all(np.array_equal(arrays[name], after[name]) for name in arrays)
    assert trainer.iterate().iteration == 2


def test_a_checkpoint_of_something_else_is_refused(search: str) -> None:
    trainer = make_trainer(search, {}, robot(), 7, **SOURCES)
    trainer.iterate()
    arrays, information = trainer.state()
    others = {"kind": "linear", "squash": True}
    for name, other in (
        ("policy", others),
        ("seed", 8),
        ("kind", "other"),
        ("interface_hash", "0"),
        ("configuration", {"std": 1.0}),
    ):
        with pytest.raises(CheckpointError, match=f"trainer's {name}: got"):
            trainer.restore(arrays, {**information, name: other})
    with pytest.raises(CheckpointError, match="lacks 'own'"):
        trainer.restore(arrays, {name: value for name, value in information.items() if name != "own"})
    with pytest.raises(CheckpointError, match="layer.bias"):
        trainer.restore({name: array for name, array in arrays.items() if name != "best/layer.bias"}, information)


def test_what_is_missing_or_unknown_is_named(search: str) -> None:
    with pytest.raises(ConfigurationError, match="got no demonstrations, expected one"):
        make_trainer(search, {}, robot(), 0)
    with pytest.raises(ConfigurationError, match="'std'"):
        make_trainer(search, {"std": -1.0}, robot(), 0, demonstrations=[demonstration()])
    with pytest.raises(ConfigurationError, match="trainer source: got 'teacher'"):
        make_trainer(search, {}, robot(), 0, teacher=None)
    with pytest.raises(ConfigurationError, match="'policy.kind': got None"):
        make_trainer(search, {}, robot(), 0, demonstrations=[demonstration()], policy={"squash": True})
    with pytest.raises(ConfigurationError, match="'hidden_units': got 0"):
        make_trainer(search, {}, robot(), 0, **{**SOURCES, "policy": {"kind": "mlp", "hidden_units": 0}})
    with pytest.raises(ConfigurationError, match="unknown trainer 'none'"):
        make_trainer("none", {}, robot(), 0)


def test_every_kind_has_a_preset_that_configures_it() -> None:
    shipped = [kind for kind in TRAINERS.names() if TRAINERS.get(kind).implementation.__module__ in MODULES]
    assert len(shipped) == len(MODULES)  # other tests register kinds of their own
    for kind in shipped:
        preset = load_preset(CONFIG / "trainer" / f"{kind}.yaml", "trainer")
        assert preset["kind"] == kind
        assert isinstance(TRAINERS.configure(kind, preset), TrainerConfig)
