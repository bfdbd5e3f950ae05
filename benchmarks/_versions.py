# SPDX-License-Identifier: Apache-2.0
"""The versions of model-based reinforcement learning offline: each learns from robot time alike, and is judged alike.

Every version has the same first trial, of random actions. What it has learned after k trials of robot time controls the
robot from the start state of trial k + 1, the same for all versions:

  0.5        k random trials, one fit to them, one open-loop plan for the whole episode
  0.5 + MPC  the same model; plans at every step
  1.0        open-loop plans; fitted again after every trial, its own trials being the data
  1.5        plans at every step, fitted again every 25 steps, likewise
  2.0        a policy, trained by backpropagation through the model, likewise

What 0.5 does in the trials that judge it is not learned from.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from _offline import preset
from _twin import CountedTwin, Twin, TwinObjective
from _versions_scene import Scene, controller_of, model_errors, transitions

from mbrl_bringup.ledger_trials import Episode, random_return, return_through, unhurried_settings
from mbrl_core.messages import TimeStep
from mbrl_core.policies import Policy
from mbrl_core.specs import Array
from mbrl_core.trial import Trial
from mbrl_dynamics.model import DynamicsModel
from mbrl_policy.training import Rollout, SimulatedRobot, make_trainer
from mbrl_robot.simulation import MujocoSimulation

MODEL_VERSIONS = ("0.5", "0.5 + MPC", "1.0", "1.5")
VERSIONS = (*MODEL_VERSIONS, "2.0")
LEARNING = {"1.0": "mbrl_1_0", "1.5": "mbrl_1_5"}
EXTRA_EPISODES = 1000  # random trials beyond the first, which only 0.5 has, are numbered from here on
# Steps that the unhurried planner looks ahead. The usual 25 are too few to see the whole swing-up of the pendulum.
ORACLE_HORIZON = {"pendulum": 60, "cartpole": 25}
RANDOM_EPISODES = 5  # whose mean return is the zero of scores

Row = dict[str, Any]


def run_models(name: str, seed: int, trials: int) -> list[Row]:
    """Rows of 0.5, 0.5 + MPC, 1.0 and 1.5: after 1 to `trials` trials of robot time."""
    torch.set_num_threads(1)
    scene = Scene(name)
    explore = scene.explore(seed)
    random = [scene.run(explore, 1 if index == 0 else EXTRA_EPISODES + index, seed) for index in range(trials)]
    own: dict[str, list[Trial]] = {version: [] for version in MODEL_VERSIONS}
    models: dict[str, list[DynamicsModel]] = {version: [] for version in MODEL_VERSIONS}
    for version in LEARNING:
        _learn_online(scene, version, seed, trials, own[version], models[version])
    for count in range(1, trials + 1):
        model = _fit_once(scene, random[:count], seed)
        for version, settings in (("0.5", scene.open_loop_planner()), ("0.5 + MPC", scene.planner())):
            controller = controller_of(scene, settings, partial(_same, model), version != "0.5", seed)
            own[version].append(scene.run(controller, count + 1, seed))
            models[version].append(model)
    rows = []
    for count in range(1, trials + 1):
        for version in MODEL_VERSIONS:
            # The states that the open-loop planners visit, those of 0.5 and of 1.0 together.
            visited = transitions([own["0.5"][count - 1], own["1.0"][count - 1]])
            model = models[version][count - 1]
            mean, median = model_errors(model, visited, random[0])
            mine, own_median = model_errors(model, transitions([own[version][count - 1]]), random[0])
            rows.append(
                {
                    **_row(scene, seed, version, count, own[version][count - 1].total_return),
                    "error_visited": mean, "median_error_visited": median,
                    "error_own": mine, "median_error_own": own_median,
                }
            )  # fmt: skip
    return rows


def _learn_online(
    scene: Scene, version: str, seed: int, trials: int, own: list[Trial], models: list[DynamicsModel]
) -> None:
    """Fills in a version's trials, and the model in force at the beginning of each."""
    learner = scene.learner(LEARNING[version], seed)
    replan = version == "1.5"
    settings = scene.planner() if replan else scene.open_loop_planner()

    def observe(time_step: TimeStep) -> None:
        learner.add(time_step)
        if learner.due:
            learner.fit()

    scene.run(scene.explore(seed), 1, seed, observe)
    for count in range(1, trials + 1):
        models.append(learner.published.clone())
        controller = controller_of(scene, settings, lambda: learner.published, replan, seed)
        own.append(scene.run(controller, count + 1, seed, observe))


def _same(model: DynamicsModel) -> DynamicsModel:
    return model


def _fit_once(scene: Scene, random: Sequence[Trial], seed: int) -> DynamicsModel:
    """A model of random trials, in one fit of as many gradient steps as 1.0 has made after as many trials."""
    repeated = scene.learner(LEARNING["1.0"], seed).published.configuration
    steps = repeated.first_steps + (len(random) - 1) * repeated.refit_steps
    model = scene.model(seed, first_steps=steps)
    model.fit(transitions(random), seed)
    return model


class EpisodeRobot(SimulatedRobot):
    """Rollouts, one after another, from the start states of episodes 2, 3, ..."""

    def __init__(self, scene: Scene, seed: int) -> None:
        super().__init__(scene.robot, scene.task, simulation=MujocoSimulation(scene.robot))
        self._scene, self._seed, self._episode = scene, seed, 1

    def rollout(self, policy: Policy, start: Array | None = None, *arguments: Any, **named: Any) -> Rollout:
        """See `TrainingRobot.rollout`."""
        self._episode += 1
        return super().rollout(policy, self._scene.start(self._seed, self._episode), *arguments, **named)


def run_policy(name: str, seed: int, trials: int, **parameters: Any) -> list[Row]:
    """Rows of 2.0."""
    torch.set_num_threads(1)
    scene = Scene(name)
    first = scene.run(scene.explore(seed), 1, seed)
    values = {**preset("trainer", "backprop", "trainer"), **parameters}
    trainer = make_trainer(
        "backprop", values, EpisodeRobot(scene, seed), seed,
        dataset=transitions([first]), model=scene.model(seed), policy=preset("policy", "mlp", "policy"),
    )  # fmt: skip
    return [_row(scene, seed, "2.0", count, trainer.iterate().mean_return) for count in range(1, trials + 1)]


def run_references(name: str, seed: int, trials: int) -> list[Row]:
    """Returns of the unhurried planner on the true dynamics, and of random actions, from the same start states."""
    torch.set_num_threads(1)
    scene = Scene(name)
    robot, twin = scene.robot, _twin(name)
    settings = unhurried_settings(ORACLE_HORIZON[name])
    rows = []
    numbers = range(2, trials + 2)
    for number in numbers:
        episode = Episode(seed, number, scene.start(seed, number), robot.episode_steps, scene.task)
        value = return_through(robot, episode, settings, TwinObjective(CountedTwin(twin), scene.task))
        rows.append(_row(scene, seed, "oracle", number - 1, value))
    for number in range(RANDOM_EPISODES):
        episode = Episode(seed, number + 2, scene.start(seed, number + 2), robot.episode_steps, scene.task)
        rows.append(_row(scene, seed, "random", number + 1, random_return(robot, episode)))
    return rows


@lru_cache
def _twin(name: str) -> Twin:
    return Twin(Scene(name).robot)


def _row(scene: Scene, seed: int, version: str, count: int, value: float) -> Row:
    seconds = count * scene.robot.episode_steps * scene.robot.spec.period
    return {"robot": scene.name, "seed": seed, "version": version, "trials": count, "robot_seconds": seconds,
            "return": value}  # fmt: skip
