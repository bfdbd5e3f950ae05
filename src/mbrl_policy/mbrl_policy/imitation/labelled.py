# SPDX-License-Identifier: Apache-2.0
"""What all algorithms that learn from a teacher's actions share: labels, the fit, and the judging of the policy."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mbrl_core.checkpoint import CheckpointError, under
from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.policies import (
    ChunkPolicy,
    Policy,
    PolicyError,
    policy_arrays,
    policy_configuration,
    policy_from_arrays,
)
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import Array
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel
from mbrl_policy.imitation.fit import FitConfig, fit_policy
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.policy_controller import PolicyController, PolicyFailed
from mbrl_policy.training import Progress, Rollout, RolloutError, TrainingAlgorithm, TrainingInterrupted, TrainingRobot

EVALUATIONS = ("robot", "model", "none")


@dataclass(frozen=True)
class LabelledConfig(FitConfig):
    """Parameters of all that learn from a teacher's actions."""

    evaluation: str = parameter(
        "robot",
        "where the policy is tried after each iteration to know the best: on the robot, in the model, which breaks"
        " nothing, or none",
        choices=EVALUATIONS,
    )
    evaluation_rollouts: int = parameter(
        4, "episodes of a trial, from the same starts every time", minimum=1, maximum=10_000
    )


class LabelledTraining(TrainingAlgorithm):
    """Fits a policy to labels and tries it; kinds say where labels come from. Demonstrations are labels to begin with.

    Without trials (`evaluation` none) the newest policy is the best. Raises ConfigurationError where the policy is to
    be tried in a model and there is none.
    """

    takes_parts = True
    config: LabelledConfig

    def __init__(self, config: Any, robot: TrainingRobot, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        if config.evaluation == "model" and self.model is None:
            raise ConfigurationError(
                f"trainer {self.kind!r}: got no model, expected one: 'evaluation: model' tries policies in it"
            )
        self.network = self.new_policy()
        if config.evaluation == "model" and isinstance(self.network, ChunkPolicy):
            raise ConfigurationError(
                "parameter 'evaluation': got 'model' for policy 'chunks', expected 'robot' or 'none': its"
                " actions depend on what it said before"
            )
        self.fitted = False
        self.labels = Labels.joined(
            [Labels.none(robot.spec), *(Labels.of_rollout(rollout) for rollout in self.demonstrations)]
        )

    @abstractmethod
    def _iterate(self, keep_going: Callable[[], bool]) -> Progress: ...

    def _fit(self, keep_going: Callable[[], bool]) -> float:
        """The network to the labels; returns the loss. Raises TrainingInterrupted."""
        loss = fit_policy(
            self.network, self.labels, self.config, self.torch_seed("fit"), keep_going, fresh=not self.fitted
        )
        self.fitted = True
        return loss

    def _tried(self, keep_going: Callable[[], bool]) -> float:
        """Mean return of the network without noise, NaN without trials; keeps it where it is the best. Raises
        TrainingInterrupted.
        """
        if self.config.evaluation == "none":
            self._best = None
        mean_return = self._evaluate(keep_going)
        self._consider(self.network, mean_return)
        return mean_return

    def _evaluate(self, keep_going: Callable[[], bool]) -> float:
        """Mean return of the network without noise; the robot's rollouts count. Raises TrainingInterrupted."""
        if self.config.evaluation == "none":
            return float("nan")
        seeds = [stream_seed(self.seed, 0, index, "evaluation") for index in range(self.config.evaluation_rollouts)]
        if self.config.evaluation == "model":
            assert self.model is not None
            starts = np.stack([self.robot.drawn_start(seed) for seed in seeds])
            return float(imagined_returns(self.network, self.model, self.robot.task, starts, self.robot.steps).mean())
        returns = []
        for seed in seeds:
            if not keep_going():
                raise TrainingInterrupted
            returns.append(policy_rollout(self.robot, self.network, seed).total_return)
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


def policy_rollout(robot: TrainingRobot, policy: Policy, seed: int) -> Rollout:
    """An episode of a policy without noise as policy_node executes it: one of chunks remembers those before. Raises
    RolloutError.
    """
    if not isinstance(policy, ChunkPolicy):
        return robot.rollout(policy, seed=seed)
    controller = PolicyController(policy.fast(), robot.spec)

    def answer(time_step: TimeStep) -> Plan:
        try:
            found = controller.answer(time_step)
        except (PolicyFailed, PolicyError) as error:
            raise RolloutError(str(error)) from error
        assert found is not None
        return found.plan

    return robot.rollout_controller(answer, seed=seed)


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
