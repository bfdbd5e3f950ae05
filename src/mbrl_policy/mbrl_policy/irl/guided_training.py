# SPDX-License-Identifier: Apache-2.0
"""Guided cost learning as a trainer: it makes a reward, and its rollouts are a planner's that follows it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_core.checkpoint import CheckpointError, under
from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.dataset import Transitions
from mbrl_core.demonstrations import Demonstration
from mbrl_core.learned_reward import LearnedReward
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.specs import Array
from mbrl_core.trial import Controller
from mbrl_dynamics.model import DynamicsModel, FitInterrupted, ModelError
from mbrl_dynamics.registry import make_model
from mbrl_planner.controller import PredictiveController
from mbrl_planner.errors import PlanningError
from mbrl_policy.irl.guided_config import GuidedCostConfig
from mbrl_policy.irl.guided_cost import GuidedCostLearning
from mbrl_policy.irl.guided_state import SHOWN, demonstrations_of, learner_arrays, restore_learner, stretches_arrays
from mbrl_policy.training.algorithm import (
    TRAINERS,
    KeepGoing,
    Progress,
    TrainerConfig,
    TrainingAlgorithm,
    TrainingInterrupted,
)
from mbrl_policy.training.model_based import COLUMNS
from mbrl_policy.training.predictive_teacher import planner_of, with_noise
from mbrl_policy.training.rollouts import Rollout, RolloutError, TrainingRobot, transitions_of


@dataclass(frozen=True)
class GuidedTrainingConfig(GuidedCostConfig, TrainerConfig):
    """Parameters of guided cost learning on a robot."""

    iterations: int = parameter(
        15, "outer iterations when nobody says how many; the learning rate falls to nothing over as many",
        minimum=1, maximum=100_000,
    )  # fmt: skip
    exploration: float = parameter(
        0.03, "std of the noise on the planner's actions, half ranges", minimum=1e-4, maximum=1.0
    )
    fits: int = parameter(2, "fits of the own model in an iteration with new data, one after another", minimum=1)


@TRAINERS.register("guided_cost", GuidedTrainingConfig)
class GuidedCostTraining(TrainingAlgorithm):
    """Finn, Levine and Abbeel 2016, "Guided cost learning: deep inverse optimal control via policy optimization", see
    `GuidedCostLearning` for the equations and where they depart from the paper.

    Each iteration improves the reward r from what was shown, lets a planner follow it on the robot for an episode,

        u_t = argmax sum_h r(x_h, u_h) + eps_t,   eps ~ N(0, (exploration half ranges)^2)

    and has that episode join the samples of the partition function: what a planner finds that nobody showed loses its
    reward. `reward` is the one whose episode came nearest to what was shown (`energy_distance`), not the newest. The
    planner sees the learned reward alone; the robot's task ends episodes and says what they are worth to whoever
    reads `mean_return`, and nothing is learned from either.

    It plans and samples through `model` where there is one, as it is; else through an ensemble of its own, fitted to
    the dataset, or the demonstrations where there is none, and to the episodes since. Demonstrations shorter than a
    window are left out. Episodes are so long that half of all shown steps are in demonstrations at least as long, and
    at most as the robot's.

    `Progress.loss` is minus the log likelihood of a shown window, nats (NaN for the adversarial objective).
    `information` has `distance`, of this iteration's episode to what was shown, `best_distance`, `effective` and
    `better` (see `GuidedProgress`).

    Raises ConfigurationError without demonstrations or planner, on a planner that does not fit, on a model of another
    robot, and where all demonstrations are shorter than a window.
    """

    kind = "guided_cost"
    needs = ("demonstrations", "planner")
    takes_parts = True
    config: GuidedTrainingConfig

    def __init__(self, config: Any, robot: TrainingRobot, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        spec = robot.spec
        if self.model is not None and self.model.spec.interface_hash != spec.interface_hash:
            raise ConfigurationError(
                f"trainer {self.kind!r}: model of interface {self.model.spec.interface_hash[:12]!r}, expected"
                f" {spec.interface_hash[:12]!r} of robot {spec.name!r}"
            )
        self.dynamics: DynamicsModel = make_model("ensemble", {}, spec, seed) if self.model is None else self.model
        self.data = self.dataset if self.dataset is not None else transitions_of(self.demonstrations)
        self._fitted = 0  # transitions that the newest fit saw
        shown = [Demonstration(each.states, each.actions) for each in self.demonstrations]
        # A button that was let go for a moment leaves stretches that show nothing.
        self._shown = [each for each in shown if len(each) >= config.horizon] or shown
        self.best_distance = math.inf
        self.learner = self._new_learner()
        self._follow(self.learner.reward())  # refuses settings that no planner has

    def _new_learner(self) -> GuidedCostLearning:
        try:
            return GuidedCostLearning(self.config, self.robot.spec, self.dynamics, self._shown, self.seed)
        except ValueError as error:
            raise ConfigurationError(f"trainer {self.kind!r}: {error}") from None

    def _iterate(self, keep_going: KeepGoing) -> Progress:
        self._fit(keep_going)
        self._check(keep_going)
        progress = self.learner.iterate(keep_going)
        self._check(keep_going)
        followed = self.learner.reward()
        episode, log_density = self._episode(followed, keep_going)
        distance = self.learner.add_episode(Demonstration(episode.states, episode.actions), log_density)
        if distance < self.best_distance:
            self.best_distance, self.best_return = distance, episode.total_return
            self._best_reward = followed
        told = {
            "distance": distance, "best_distance": self.best_distance, "effective": progress.effective,
            "better": progress.better,
        }  # fmt: skip
        return Progress(0, episode.total_return, loss=-progress.likelihood, information=told)

    def _check(self, keep_going: KeepGoing) -> None:
        if not keep_going():
            raise TrainingInterrupted(f"trainer {self.kind!r}: stopped in iteration {self.iteration + 1}")

    def _fit(self, keep_going: KeepGoing) -> None:
        """The own model to everything so far."""
        if self.model is None and len(self.data) > self._fitted:
            try:
                for _ in range(self.config.fits):
                    self.dynamics.fit(self.data, self.seed, keep_going)
            except FitInterrupted as interrupted:
                raise TrainingInterrupted(str(interrupted)) from None
            self._fitted = len(self.data)
        # Who samples through a model keeps what it derived from it.
        self.learner.learn_from(self.dynamics)

    def _episode(self, reward: LearnedReward, keep_going: KeepGoing) -> tuple[Rollout, float]:
        """On the robot, by a planner that follows `reward`, and the log density of its noise."""
        action, steps = self.robot.spec.action, self._steps()
        scale = self.config.exploration * 0.5 * (np.array(action.upper) - np.array(action.lower))
        noise = self.random("exploration").standard_normal((steps, action.size))
        controller = with_noise(self._follow(reward), scale * noise, lambda: self._check(keep_going))
        episode = self.robot.rollout_controller(controller, steps=steps, seed=self.rollout_seed(0))
        self.rollouts += 1
        if self.model is None:
            new = transitions_of([episode])
            first = int(self.data.episode.max()) + 1
            new = Transitions(new.state, new.action, new.next_state, new.episode + first, new.step)
            self.data = Transitions.joined((self.data, new))
        return episode, log_density(noise[: len(episode)], scale)

    def _follow(self, reward: LearnedReward) -> Controller:
        """Model predictive control by the learned reward alone. Raises ConfigurationError."""
        assert self.planner is not None
        planner = planner_of(self.planner, self.robot.spec, self.dynamics, reward, self.torch_seed("planner"))
        if planner.config.particles % self.dynamics.members:
            raise ConfigurationError(
                f"parameter 'planner.particles': got {planner.config.particles}, expected a multiple of the model's"
                f" {self.dynamics.members} members"
            )
        controller = PredictiveController(planner)

        def answer(time_step: TimeStep) -> Plan:
            try:
                return controller.answer(time_step).plan
            except PlanningError as error:
                raise RolloutError(f"no plan at step {time_step.step}: {error}") from error

        return answer

    def _steps(self) -> int:
        lengths = np.sort([len(each) for each in self._shown])[::-1]
        typical = lengths[np.searchsorted(np.cumsum(lengths), 0.5 * lengths.sum())]
        return min(self.robot.steps, int(typical))

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The demonstrations as well, so that what is resumed goes on with the same."""
        arrays = {f"learner/{name}": value for name, value in learner_arrays(self.learner).items()}
        arrays |= stretches_arrays(SHOWN, [(each.states, each.actions) for each in self._shown])
        information = {
            "best_distance": self.best_distance if math.isfinite(self.best_distance) else None,
            "fitted": self._fitted, "model": self.dynamics.configuration_mapping(), "own_model": self.model is None,
        }  # fmt: skip
        if self.model is None:
            arrays |= {f"data/{name}": getattr(self.data, name).copy() for name in COLUMNS}
            arrays |= {f"model/{name}": value for name, value in self.dynamics.state_arrays().items()}
        return arrays, information

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        mine = {"model": self.dynamics.configuration_mapping(), "own_model": self.model is None}
        for name, value in mine.items():
            if information[name] != value:
                raise CheckpointError(f"trainer's {name}: got {information[name]}, expected {value}")
        before = self._shown, self.learner
        try:
            self._shown = demonstrations_of(arrays)
            self.learner = self._new_learner()
            restore_learner(self.learner, under("learner/", arrays))
            if self.model is None:
                data = Transitions(*(arrays[f"data/{name}"] for name in COLUMNS))
                self.dynamics.load_arrays(under("model/", arrays))
                self.data = data
        except (CheckpointError, ConfigurationError, ModelError, ValueError, KeyError) as error:
            self._shown, self.learner = before
            if isinstance(error, KeyError):
                raise
            raise CheckpointError(f"trainer {self.kind!r}: {error}") from None
        best_distance = information["best_distance"]
        self.best_distance = math.inf if best_distance is None else float(best_distance)
        self._fitted = int(information["fitted"])


def log_density(noise: Array, scale: Array) -> float:
    """Of actions with Gaussian noise: `scale` [m] in their units, times the standard normal numbers `noise` [T, m]."""
    return -0.5 * float((noise**2).sum()) - len(noise) * float(np.log(scale * math.sqrt(2.0 * math.pi)).sum())
