# SPDX-License-Identifier: Apache-2.0
"""PLATO: model predictive control that comes to meet the policy gathers the data, and plain control labels it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_core.policies import Policy
from mbrl_core.specs import Array
from mbrl_planner.ilqr import Ilqr
from mbrl_planner.registry import configure_planner
from mbrl_policy.imitation.adaptive_teacher import AdaptiveTeacher, NearPolicyObjective
from mbrl_policy.imitation.base import ImitationAlgorithm, ImitationConfig
from mbrl_policy.imitation.labelled import EVALUATIONS
from mbrl_policy.imitation.labels import LabelBook, Labels
from mbrl_policy.imitation.teacher import Teacher
from mbrl_policy.training import TRAINERS, Rollout, TrainingRobot
from mbrl_policy.training.predictive_teacher import planning_objective

LARGEST_CHANGE = 2.0  # of lambda from one iteration to the next
COVARIANCES = ("teacher", "policy")


@dataclass(frozen=True)
class PlatoConfig(ImitationConfig):
    """Parameters of PLATO."""

    divergence_weight: float = parameter(
        1.0, "lambda of the first iteration with a policy: what a nat of divergence from it costs, in nats of return",
        minimum=1e-9, maximum=1e9,
    )  # fmt: skip
    target_divergence: float = parameter(
        0.0, "mean divergence a step, nats, that lambda is adapted to meet between iterations; 0: lambda stays",
        minimum=0.0,
    )  # fmt: skip
    temperature: float = parameter(0.01, "return that counts as one nat", minimum=1e-9)
    covariance: str = parameter(
        "teacher",
        "the policy's noise in the divergence: teacher, the inverse of the teacher's mean Q_uu over the labels, which"
        " makes lambda the policy's share beside 1 of the teacher; or policy, its own, which follows its residuals",
        choices=COVARIANCES,
    )
    sampled: bool = parameter(True, "execute samples of the adaptive teacher, not its mean")
    evaluation: str = parameter(
        "model",
        "where the policy is tried after each iteration to know the best: on the robot, in the model, which breaks"
        " nothing, or none",
        choices=EVALUATIONS,
    )


@TRAINERS.register("plato", PlatoConfig)
class Plato(ImitationAlgorithm):
    """Kahn, Zhang, Levine and Abbeel 2017, "PLATO: Policy learning using adaptive trajectory optimization",
    arXiv:1603.00622.

    At every step pi_lambda = argmin J + lambda KL(pi || pi_theta) is executed (`AdaptiveTeacher`) and the state is
    labelled with the action of argmin J; the policy is fitted to all labels, weighted by Q_uu (the mean part of
    KL(pi_theta || pi*)). It is never executed itself. Without demonstrations the first iteration executes argmin J.

    With `target_divergence` d, lambda grows by sqrt(divergence / d) after an iteration, at most twofold either way: a
    dual step on E KL(pi_lambda || pi_theta) <= d.

    Raises ConfigurationError on a planner other than iLQR and DDP, which alone have a Q_uu.
    """

    kind = "plato"
    config: PlatoConfig

    def __init__(self, config: Any, robot: TrainingRobot, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        self.divergence_weight = config.divergence_weight
        planner = self._planner()
        if not isinstance(planner, Ilqr):
            raise ConfigurationError(
                f"parameter 'planner.kind': got {planner.kind!r}, expected 'ilqr' or 'ddp': trainer 'plato' needs the"
                " curvature of the return by the action"
            )

    def _gather(self, keep_going: Callable[[], bool]) -> tuple[list[Rollout], list[Labels], dict[str, float]]:
        plain, adaptive = self._planner(), None
        assert isinstance(plain, Ilqr)
        if self.fitted:
            near = self._near_objective()
            drawn = self._planner(near)
            assert isinstance(drawn, Ilqr)
            adaptive = AdaptiveTeacher(drawn, near)
        teacher, law = Teacher(plain), PolicyLaw(self.network, self._policy_covariance())
        weight = self.divergence_weight * self.config.temperature
        divergences: list[float] = []

        def episode(index: int) -> tuple[Rollout, Labels]:
            noise = self.random("noise", index).standard_normal((self.robot.steps, self.robot.spec.action.size))
            book = LabelBook()

            def controller(time_step: TimeStep) -> Plan:
                advice = teacher.advice(time_step)
                book.add(time_step, advice.action, advice.gain, _first_curvature(plain))
                if adaptive is None:
                    return Plan(advice.action[None])
                if time_step.step_type == StepType.FIRST:
                    drawn.end_episode()
                adapted = adaptive.adapted(time_step, *law.at(time_step.state, time_step.step), weight)
                divergences.append(adapted.divergence)
                change = np.linalg.cholesky(adapted.covariance) @ noise[time_step.step]
                return Plan((adapted.mean + change * self.config.sampled)[None])

            return self.robot.rollout_controller(controller, seed=self.rollout_seed(index)), book.labels()

        rollouts, labels = self._episodes(episode, keep_going)
        if not divergences:
            return rollouts, labels, {}
        mean = float(np.mean(divergences))
        told = {"divergence": mean, "divergence_weight": self.divergence_weight}
        if self.config.target_divergence > 0.0:
            change = math.sqrt(max(mean, 0.0) / self.config.target_divergence)
            self.divergence_weight *= min(max(change, 1.0 / LARGEST_CHANGE), LARGEST_CHANGE)
        return rollouts, labels, told

    def _near_objective(self) -> NearPolicyObjective:
        objective = self.objective
        if objective is None:
            assert self.planner is not None and self.model is not None
            objective = planning_objective(self.model, self.robot.task, configure_planner(self.planner)[1])
        return NearPolicyObjective(objective, self.robot.spec)

    def _policy_covariance(self) -> Array | None:
        """Sigma_theta [m, m] of all states; None where the policy says its own."""
        if self.config.covariance == "policy" or len(self.labels) == 0:
            return None
        return np.asarray(self.config.temperature * np.linalg.inv(self.labels.precisions.mean(axis=0)))

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, information = super()._state()
        return arrays, {**information, "divergence_weight": self.divergence_weight}

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        weight = float(information["divergence_weight"])
        super()._restore(arrays, information)
        self.divergence_weight = weight


class PolicyLaw:
    """Mean and covariance of a policy's action in single states; `covariance` [m, m] takes the place of its own."""

    def __init__(self, policy: Policy, covariance: Array | None) -> None:
        self._policy, self._fast, self._covariance = policy, policy.fast(), covariance

    def at(self, state: Array, step: int) -> tuple[Array, Array]:
        """mean [m], covariance [m, m]."""
        covariance = self._covariance
        if covariance is None:
            local = self._policy.linearise(torch.from_numpy(np.array(state)).float(), step)
            covariance = local.covariance.double().numpy()
        return self._fast.action(state, step), covariance


def _first_curvature(planner: Ilqr) -> Array | None:
    """Q_uu [m, m] of the newest plan's first action, at least a thousandth of its largest entry; None without one."""
    if planner.action_curvature is None:
        return None
    values, vectors = np.linalg.eigh(planner.action_curvature[0])
    largest = max(float(np.abs(values).max()), 1e-12)
    return np.asarray((vectors * np.maximum(values, 1e-3 * largest)) @ vectors.T)
