# SPDX-License-Identifier: Apache-2.0
"""Noise injection: a teacher who is disturbed shows how to come back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.config import parameter
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.policies import Policy
from mbrl_core.specs import Array
from mbrl_policy.imitation.base import ImitationAlgorithm, ImitationConfig
from mbrl_policy.imitation.labels import LabelBook, Labels
from mbrl_policy.imitation.teacher import Teacher
from mbrl_policy.training import TRAINERS, Rollout, TrainingRobot


@dataclass(frozen=True)
class NoiseInjectionConfig(ImitationConfig):
    """Parameters of noise injection."""

    initial_noise: float = parameter(
        0.1, "standard deviation of the noise while there is no policy yet, half ranges", minimum=0.0, maximum=10.0
    )
    expected_error: float = parameter(
        0.0, "alpha: squared error, half ranges, that the final policy is expected to add up to in an episode; the"
        " noise's covariance is scaled to it. 0 leaves it as the policy's errors have it", minimum=0.0,
    )  # fmt: skip
    most_noise: float = parameter(
        1.0, "largest standard deviation of the noise in any direction, half ranges", minimum=0.0, maximum=10.0
    )


@TRAINERS.register("noise_injection", NoiseInjectionConfig)
class NoiseInjection(ImitationAlgorithm):
    """Laskey, Lee, Fox, Dragan and Goldberg 2017, "DART: Noise injection for robust imitation learning"
    (arXiv:1703.09327), algorithm 1.

    The teacher alone moves the robot, with noise on its actions: u_t = pi*(x_t) + eps, eps ~ N(0, Sigma_i). Labels are
    the teacher's own actions. What the noise should do is bring about the states in which the policy will find itself,
    so that Sigma is the maximum likelihood of the policy's errors,

        Sigma_(i+1) = 1/T sum_t (pi_theta(x_t) - pi*(x_t)) (pi_theta(x_t) - pi*(x_t))'

    over the episodes of an iteration, by the policy fitted before them: errors on states that it has not seen. With
    `expected_error` alpha it is scaled to T tr(Sigma) = alpha, as the paper scales it towards the error to come.
    `Progress.information` has `noise`, the root of the mean variance used, half ranges.
    """

    kind = "noise_injection"
    teacher_moves = True
    config: NoiseInjectionConfig

    def __init__(self, config: Any, robot: TrainingRobot, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        action = robot.spec.action
        self._half_range = 0.5 * (np.array(action.upper) - np.array(action.lower))
        self.covariance = config.initial_noise**2 * np.eye(action.size)  # half ranges

    def _gather(self, keep_going: Callable[[], bool]) -> tuple[list[Rollout], list[Labels], dict[str, float]]:
        teacher, spec = Teacher(self._planner()), self.robot.spec
        root = spread_of(self.covariance)

        def episode(index: int) -> tuple[Rollout, Labels]:
            noise = self.random("noise", index).standard_normal((self.robot.steps, spec.action.size))
            book = LabelBook()

            def controller(time_step: TimeStep) -> Plan:
                advice = teacher.advice(time_step)
                book.add(time_step, advice.action, advice.gain, follows=len(book) > 0)
                disturbance = root @ noise[time_step.step] if time_step.step < len(noise) else 0.0
                return Plan((advice.action + self._half_range * disturbance)[None])

            return self.robot.rollout_controller(controller, seed=self.rollout_seed(index)), book.labels()

        rollouts, labels = self._episodes(episode, keep_going)
        told = {"noise": float(np.sqrt(np.trace(self.covariance) / len(self.covariance)))}
        if self.fitted:
            self.covariance = self._fitted_covariance(Labels.joined(labels))
        return rollouts, labels, told

    def _fitted_covariance(self, labels: Labels) -> Array:
        """Sigma [m, m], half ranges, of the network's errors."""
        errors = actions_of(self.network, labels) - labels.actions
        errors = errors / self._half_range
        covariance = np.asarray(errors.T @ errors / len(errors))
        total = self.robot.steps * float(np.trace(covariance))
        if self.config.expected_error > 0.0 and total > 0.0:
            covariance *= self.config.expected_error / total
        largest = float(np.linalg.eigvalsh(covariance).max())
        return covariance * min(1.0, self.config.most_noise**2 / max(largest, 1e-300))

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, information = super()._state()
        return {**arrays, "noise_covariance": self.covariance.copy()}, information

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        covariance = np.array(arrays["noise_covariance"])
        if covariance.shape != self.covariance.shape or not np.isfinite(covariance).all():
            raise CheckpointError(
                f"trainer {self.kind!r}: noise_covariance is {covariance.tolist()}, expected finite numbers"
                f" {list(self.covariance.shape)}"
            )
        super()._restore(arrays, information)
        self.covariance = covariance


def actions_of(policy: Policy, labels: Labels) -> Array:
    """[N, m]: what a policy does without noise in the states of labels."""
    with torch.no_grad():
        steps = torch.from_numpy(labels.steps.astype(np.int64))
        return np.asarray(policy.mode(torch.from_numpy(labels.states).float(), steps).double().numpy())


def spread_of(covariance: Array) -> Array:
    """A root [m, m] of a positive semi-definite covariance, which Cholesky's would not give at a zero."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
