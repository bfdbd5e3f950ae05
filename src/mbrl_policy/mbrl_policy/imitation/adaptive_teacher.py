# SPDX-License-Identifier: Apache-2.0
"""A trajectory optimiser that is drawn towards a policy in its first action."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from mbrl_core.messages import TimeStep
from mbrl_core.specs import Array, RobotSpec
from mbrl_planner.expansion import Expansion, Trajectory, TrajectoryProblem
from mbrl_planner.ilqr import Ilqr
from mbrl_planner.planner import Objective, PlanningError
from mbrl_policy.training import TrainingError


class NearPolicyProblem(TrajectoryProblem):
    """Another problem, less 1/2 (u_0 - mean)' weight (u_0 - mean) of the first action u_0.

    mean [m], weight [m, m] in units of return.
    """

    def __init__(self, problem: TrajectoryProblem, mean: Array, weight: Array) -> None:
        # Everything is the other problem's; only what it answers is changed.
        self._problem, self._mean, self._weight = problem, mean, weight
        self.timing = problem.timing

    def open_loop(self, state: Array, actions: Array) -> list[Trajectory]:
        """See `TrajectoryProblem.open_loop`."""
        return [self._less(one) for one in self._problem.open_loop(state, actions)]

    def closed_loop(self, state: Array, reference: Array, actions: Array, gains: Array) -> list[Trajectory]:
        """See `TrajectoryProblem.closed_loop`."""
        return [self._less(one) for one in self._problem.closed_loop(state, reference, actions, gains)]

    def expand(self, trajectory: Trajectory, second_order: bool) -> Expansion:
        """See `TrajectoryProblem.expand`."""
        expansion = self._problem.expand(trajectory, second_order)
        slope, curvature = expansion.slope.copy(), expansion.curvature.copy()
        size = expansion.by_state.shape[-1]
        own = slice(size, size + len(self._mean))
        slope[0, own] += self._weight @ (trajectory.actions[0] - self._mean)
        curvature[0, own, own] += self._weight
        return replace(expansion, slope=slope, curvature=curvature)

    def _less(self, trajectory: Trajectory) -> Trajectory:
        error = trajectory.actions[0] - self._mean
        return replace(trajectory, total=trajectory.total - 0.5 * float(error @ self._weight @ error))


class NearPolicyObjective(Objective):
    """Another objective whose trajectory problem is a `NearPolicyProblem`; `mean` and `weight` change from plan to
    plan.
    """

    def __init__(self, objective: Objective, spec: RobotSpec) -> None:
        self.objective = objective
        self.mean: Array = np.zeros(spec.action.size)
        self.weight: Array = np.zeros((spec.action.size, spec.action.size))

    def start(self, seed: int) -> None:
        self.objective.start(seed)

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        error = actions[:, 0].double() - torch.from_numpy(self.mean)
        away = 0.5 * torch.einsum("ni,ij,nj->n", error, torch.from_numpy(self.weight), error)
        return self.objective(state, actions) - away.float()

    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        return self.objective.predict(state, actions)

    def trajectory_problem(self, spec: RobotSpec) -> TrajectoryProblem:
        return NearPolicyProblem(self.objective.trajectory_problem(spec), self.mean, self.weight)


@dataclass(frozen=True)
class Adapted:
    """pi_lambda in one state: N(mean [m], covariance [m, m]), and its divergence from the policy there, in nats."""

    mean: Array
    covariance: Array
    divergence: float


class AdaptiveTeacher:
    """argmin over pi of J_t(pi | x_t) + lambda KL(pi(. | x_t) || pi_theta(. | o_t)), J in units of `temperature`.

    Kahn, Zhang, Levine and Abbeel 2017, "PLATO: Policy learning using adaptive trajectory optimization".
    The divergence counts in the present step alone, of whose observation alone there is one. With the policy
    N(mu_theta, Sigma_theta) there and the return's curvature Q_uu by the first action the minimiser is

        u_lambda = argmax of return - weight / 2 (u - mu_theta)' Sigma_theta^-1 (u - mu_theta),   Sigma = weight (Q_uu +
        weight Sigma_theta^-1)^-1,   weight = lambda temperature

    exact where the return is quadratic; u_lambda is iLQR's answer, within the action limits.
    """

    def __init__(self, planner: Ilqr, objective: NearPolicyObjective) -> None:
        """`planner` plans through `objective`."""
        self._planner, self._objective = planner, objective

    def adapted(self, time_step: TimeStep, mean: Array, covariance: Array, weight: float) -> Adapted:
        """For the state of `time_step`, where the policy is N(mean [m], covariance [m, m]); weight > 0.

        Raises TrainingError where no plan is found.
        """
        precision: Array = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        self._objective.mean, self._objective.weight = mean, weight * precision
        try:
            plan = self._planner.plan(time_step.state, step_key=(time_step.episode, time_step.step))
        except PlanningError as error:
            raise TrainingError(f"adaptive teacher: no plan at step {time_step.step}: {error}") from error
        own = weight * np.asarray(np.linalg.inv(self._curvature(weight * precision)), dtype=np.float64)
        return Adapted(plan.actions[0], own, divergence(plan.actions[0], own, mean, covariance))

    def _curvature(self, least: Array) -> Array:
        """Q_uu of the first action, the policy's share `least` included, which is all where there is no other."""
        known = self._planner.action_curvature
        if known is None:
            return least
        values, vectors = np.linalg.eigh(known[0] - least)
        return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T + least)


def divergence(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """KL(N(mean, covariance) || N(other_mean, other_covariance)), in nats; means [m], covariances [m, m]."""
    precision, difference = np.linalg.inv(other_covariance), mean - other_mean
    logs = np.linalg.slogdet(other_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return float(0.5 * (np.trace(precision @ covariance) - len(mean) + logs + difference @ precision @ difference))
