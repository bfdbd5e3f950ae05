# SPDX-License-Identifier: Apache-2.0
"""A robot and its task for the benchmark of the versions: the graph's learner, planner and exploration, offline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import yaml
from _offline import CONFIG, preset, tuning

from mbrl_core.config import from_mapping
from mbrl_core.dataset import Transitions
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot, load_robot, start_state
from mbrl_core.specs import Array
from mbrl_core.tasks import Task, task_of_preset
from mbrl_core.trial import Controller, Trial, run_trial
from mbrl_dynamics.encoding import Encoder, safe_scale
from mbrl_dynamics.learner import LearnerConfig, OnlineLearner
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_planner.controller import PredictiveController
from mbrl_planner.objective import ModelObjective
from mbrl_planner.registry import make_planner
from mbrl_policy.exploration import ExplorationConfig, RandomExploration
from mbrl_robot.simulation import MujocoSimulation

OPEN_LOOP_ITERATIONS = 10


@dataclass(frozen=True)
class Scene:
    """A robot and its task."""

    name: str

    @property
    def robot(self) -> Robot:
        return _robot(self.name)

    @property
    def task(self) -> Task:
        return task_of_preset(preset("tasks", self.robot.task, "task"))

    def planner(self) -> dict[str, Any]:
        """The planner's settings as in the running graph."""
        return {**preset("planner", "icem", "planner"), **tuning(self.name, "planner").get("planner", {})}

    def open_loop_planner(self) -> dict[str, Any]:
        """The same planner for one plan of a whole episode, which may make as many model calls as all plans of an
        episode that is planned anew at every step.
        """
        values, steps = self.planner(), self.robot.episode_steps
        decay = values["population_decay"]
        sequences = sum(int(values["population_size"] / decay**index) for index in range(values["iterations"]))
        iterations = OPEN_LOOP_ITERATIONS
        size = sequences * values["horizon"] // iterations
        return {
            **values, "horizon": steps, "iterations": iterations, "population_size": size, "population_decay": 1.0,
            "elites": max(values["elites"], size // 10),
        }  # fmt: skip

    def model(self, seed: int, **parameters: Any) -> DynamicsModel:
        """A new model, with the settings of the running graph."""
        values = {**preset("dynamics", "ensemble", "dynamics"), **tuning(self.name, "learner").get("dynamics", {})}
        return make_model(values["kind"], {**values, **parameters}, self.robot.spec, seed)

    def learner(self, version: str, seed: int) -> OnlineLearner:
        """A learner with the settings of an algorithm's preset, `mbrl_1_0` or another."""
        content = yaml.safe_load((CONFIG / "algorithms" / f"{version}.yaml").read_text(encoding="utf-8"))
        own = content["/**/learner"]["ros__parameters"]
        values = {
            **preset("dynamics", "ensemble", "learner"),
            **tuning(self.name, "learner").get("learner", {}),
            **own["learner"],
        }
        return OnlineLearner(self.model(seed, **own.get("dynamics", {})), from_mapping(LearnerConfig, values), seed)

    def explore(self, seed: int) -> Controller:
        """Random exploration, as in the running graph."""
        values = {"seed": seed, **tuning(self.name, "explore")}
        exploration = RandomExploration(from_mapping(ExplorationConfig, values), self.robot.spec)
        return lambda step: Plan(exploration.actions(step.episode, step.step, step.state)[:1])

    def run(
        self,
        controller: Controller,
        episode: int,
        seed: int,
        observe: Callable[[TimeStep], object] | None = None,
    ) -> Trial:
        """An episode in MuJoCo, from `start`."""
        robot = self.robot
        simulation = MujocoSimulation(robot)
        return run_trial(simulation, controller, self.task, robot.spec, robot.episode_steps, episode, seed, observe)

    def start(self, seed: int, episode: int) -> Array:
        """The start state of an episode, whoever controls it."""
        return start_state(self.robot, generator(seed, episode, 0, "start"))


@lru_cache
def _robot(name: str) -> Robot:
    return load_robot(CONFIG / "robots" / f"{name}.yaml")


def controller_of(
    scene: Scene, settings: Mapping[str, Any], model: Callable[[], DynamicsModel], replan: bool, seed: int
) -> Controller:
    """Plans through whatever model is in force; without `replan`, once an episode."""
    task, known = scene.task, model()

    def objective(of: DynamicsModel) -> ModelObjective:
        return ModelObjective(of, task, int(settings["particles"]), str(settings["propagation"]))

    controller = PredictiveController(make_planner(settings, scene.robot.spec, objective(known), seed), replan)

    def answer(time_step: TimeStep) -> Plan:
        nonlocal known
        if model() is not known:
            known = model()
            controller.planner.objective = objective(known)
        return controller.answer(time_step).plan

    return answer


def transitions(trials: Sequence[Trial]) -> Transitions:
    """All of some trials."""
    return Transitions(
        np.concatenate([trial.state[:-1] for trial in trials]),
        np.concatenate([trial.action for trial in trials]),
        np.concatenate([trial.state[1:] for trial in trials]),
        np.repeat(np.arange(len(trials)), [len(trial.action) for trial in trials]),
        np.concatenate([np.arange(len(trial.action)) for trial in trials]),
    )


def model_errors(model: DynamicsModel, data: Transitions, first: Trial) -> tuple[float, float]:
    """Mean and median over transitions of the squared error of the members' mean next state, mean over state variables,
    each in units of how its change varies in the first random trial. The mean is that of the few impacts at end stops
    where there are any; the median is that of ordinary motion.
    """
    encoder = Encoder(model.spec)
    scale = safe_scale(encoder.change(transitions([first])).std(axis=0))
    with torch.no_grad():
        state, action = torch.from_numpy(data.state).float(), torch.from_numpy(data.action).float()
        mean = model.predict(state, action).mean.mean(dim=0).double().numpy()
    errors = np.square(encoder.difference(mean, data.next_state) / scale).mean(axis=1)
    return float(errors.mean()), float(np.median(errors))
