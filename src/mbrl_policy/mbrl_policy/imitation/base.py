# SPDX-License-Identifier: Apache-2.0
"""What all algorithms that imitate a planner share: labels that add up, the fit, and the judging of the policy."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mbrl_core.checkpoint import CheckpointError, under
from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.policies import Policy, policy_arrays, policy_configuration, policy_from_arrays
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import Array
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel
from mbrl_planner.planner import Objective, Planner
from mbrl_planner.registry import configure_planner
from mbrl_policy.imitation.fit import FitConfig, fit_policy
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.training import (
    Progress,
    Rollout,
    RolloutError,
    TrainingAlgorithm,
    TrainingInterrupted,
    TrainingRobot,
)
from mbrl_policy.training.predictive_teacher import planner_of

EVALUATIONS = ("robot", "model")


@dataclass(frozen=True)
class ImitationConfig(FitConfig):
    """Parameters of all that imitate."""

    rollouts: int = parameter(4, "episodes an iteration in which the teacher is asked", minimum=1, maximum=10_000)
    evaluation: str = parameter(
        "robot",
        "where the policy is tried after each iteration to know the best: on the robot, or in the model, which breaks"
        " nothing",
        choices=EVALUATIONS,
    )
    evaluation_rollouts: int = parameter(
        4, "episodes of a trial, from the same starts every time", minimum=1, maximum=10_000
    )


class ImitationAlgorithm(TrainingAlgorithm):
    """Gathers labels, fits the policy to all of them, tries it; kinds say how labels are gathered.

    The teacher plans with the settings `planner` through `model`, known or learned, or through any `objective` that is
    given instead; it sees the whole state, the policy what its settings say. Demonstrations are labels to begin with.
    `Progress.information` has `failures`, episodes of this iteration's gathering that the task ended, `labels`, all so
    far, and `lost_rollouts`, those that the robot could not do.

    Raises ConfigurationError on a planner that does not fit, and without model and objective.
    """

    needs = ("planner",)
    config: ImitationConfig

    def __init__(
        self, config: Any, robot: TrainingRobot, seed: int, *, objective: Objective | None = None, **sources: Any
    ) -> None:
        super().__init__(config, robot, seed, **sources)
        if self.model is None and (objective is None or config.evaluation == "model"):
            raise ConfigurationError(
                f"trainer {self.kind!r}: got no model, expected one: its teacher plans through it, and"
                " 'evaluation: model' tries policies in it"
            )
        self.objective = objective
        assert self.planner is not None
        configure_planner(self.planner)
        self.network = self.new_policy()
        self.fitted = False
        self.labels = Labels.joined(
            [Labels.none(robot.spec), *(Labels.of_rollout(rollout) for rollout in self.demonstrations)]
        )

    @abstractmethod
    def _gather(self, keep_going: Callable[[], bool]) -> tuple[list[Rollout], list[Labels], dict[str, float]]:
        """New rollouts, their labels, and what else there is to tell. Raises TrainingError, RolloutError,
        TrainingInterrupted.
        """

    def _iterate(self, keep_going: Callable[[], bool]) -> Progress:
        if not self.fitted and len(self.labels) >= 2:
            self._fit(keep_going)  # to the demonstrations
        rollouts, labels, information = self._gather(keep_going)
        self.labels = Labels.joined([self.labels, *labels])
        loss = self._fit(keep_going)
        mean_return = self._evaluate(keep_going)
        self._consider(self.network, mean_return)
        told = {
            "failures": float(sum(rollout.terminated for rollout in rollouts)),
            "labels": float(len(self.labels)),
            "lost_rollouts": float(self.config.rollouts - len(rollouts)),
            **information,
        }
        return Progress(0, mean_return, told.get("divergence", math.nan), loss, information=told)

    def _planner(self, objective: Objective | None = None) -> Planner:
        """A new one: what a planner learns from episode to episode would otherwise be lost when training resumes."""
        assert self.planner is not None
        robot = self.robot
        return planner_of(
            self.planner, robot.spec, self.model, robot.task, self.torch_seed("planner"), objective or self.objective
        )

    def _episodes(
        self, episode: Callable[[int], tuple[Rollout, Labels]], keep_going: Callable[[], bool]
    ) -> tuple[list[Rollout], list[Labels]]:
        """As many as the configuration says, less those that the robot could not do. Raises RolloutError when it could
        do none, TrainingInterrupted.
        """
        done: list[tuple[Rollout, Labels]] = []
        lost: RolloutError | None = None
        for index in range(self.config.rollouts):
            if not keep_going():
                raise TrainingInterrupted
            try:
                done.append(episode(index))
            except RolloutError as error:
                lost = error
            else:
                self.rollouts += 1
        if not done:
            assert lost is not None
            raise lost
        return [rollout for rollout, _ in done], [labels for _, labels in done]

    def _fit(self, keep_going: Callable[[], bool]) -> float:
        loss = fit_policy(
            self.network, self.labels, self.config, self.torch_seed("fit"), keep_going, fresh=not self.fitted
        )
        self.fitted = True
        return loss

    def _evaluate(self, keep_going: Callable[[], bool]) -> float:
        """Mean return of the policy without noise; the robot's rollouts count. Raises TrainingInterrupted."""
        seeds = [stream_seed(self.seed, 0, index, "evaluation") for index in range(self.config.evaluation_rollouts)]
        if self.config.evaluation == "model":
            assert self.model is not None
            starts = np.stack([self.robot.drawn_start(seed) for seed in seeds])
            return float(imagined_returns(self.network, self.model, self.robot.task, starts, self.robot.steps).mean())
        returns = []
        for seed in seeds:
            if not keep_going():
                raise TrainingInterrupted
            returns.append(self.robot.rollout(self.network, seed=seed).total_return)
            self.rollouts += 1
        return float(np.mean(returns))

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        network = {f"network/{name}": array for name, array in policy_arrays(self.network).items()}
        return {**network, **self.labels.arrays()}, {"fitted": self.fitted}

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        settings = policy_configuration(self.network)
        policy = policy_from_arrays(
            self.network.kind, settings, under("network/", arrays), self.robot.spec, "trainer's network"
        )
        try:
            labels = Labels.from_arrays(arrays)
        except ValueError as error:
            raise CheckpointError(f"trainer {self.kind!r}: {error}") from None
        self.network, self.labels, self.fitted = policy, labels, bool(information["fitted"])


def imagined_returns(policy: Policy, model: DynamicsModel, task: Task, starts: Array, steps: int) -> Array:
    """Returns [B] of `policy` without noise from starts [B, n] over `steps` steps, as the mean of the model's members
    has it. After a terminal state nothing is earned; where numbers stop being finite the return is -inf.
    """
    with torch.inference_mode():
        state = torch.from_numpy(starts).to(model.precision)
        total = torch.zeros(len(starts), dtype=model.precision)
        alive = torch.ones(len(starts), dtype=torch.bool)
        for step in range(steps):
            action = policy.mode(state.float(), step).to(model.precision)
            following = model.predict(state, action).mean.mean(dim=0)
            total += torch.where(alive, task.reward(state, action, following), 0.0)
            state = following
            alive &= ~task.terminated(state)
        return torch.where(total.isfinite(), total, -torch.inf).double().numpy()
