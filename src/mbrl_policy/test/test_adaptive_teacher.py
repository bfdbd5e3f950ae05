# SPDX-License-Identifier: Apache-2.0
"""PLATO's teacher where everything is linear and quadratic, so that its minimiser can be written down."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from mbrl_core.messages import StepType, TimeStep
from mbrl_core.specs import ActionSpec, Array, RobotSpec, StateSpec
from mbrl_dynamics.model import KeepGoing
from mbrl_planner.expansion import TrajectoryProblem
from mbrl_planner.ilqr import Ilqr
from mbrl_planner.planner import Objective
from mbrl_planner.registry import make_planner
from mbrl_policy.imitation.adaptive_teacher import Adapted, AdaptiveTeacher, NearPolicyObjective, divergence

STATES, ACTIONS, HORIZON = 3, 2, 6


def spec_of(limit: float) -> RobotSpec:
    state = StateSpec(("a", "b", "c"), ("linear",) * 3, ("m",) * 3, (-math.inf,) * 3, (math.inf,) * 3)
    action = ActionSpec(("u", "v"), ("effort",) * 2, ("N",) * 2, (-limit,) * 2, (limit,) * 2, (1.0,) * 2,
                        (math.inf,) * 2)  # fmt: skip
    return RobotSpec("linear", 0.1, state, action)


class LinearDynamics:
    """x' = A x + B u."""

    def __init__(self, matrix: torch.Tensor, control: torch.Tensor) -> None:
        self.matrix, self.control = matrix, control

    def step(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return state @ self.matrix.T + action @ self.control.T

    def rollout(self, state: torch.Tensor, actions: torch.Tensor, keep_going: KeepGoing | None) -> torch.Tensor:
        states = [state.expand(len(actions), -1)]
        for index in range(actions.shape[1]):
            states.append(self.step(states[-1], actions[:, index]))
        return torch.stack(states, dim=1)

    def jacobians(self, state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.matrix.expand(len(state), -1, -1), self.control.expand(len(state), -1, -1)

    def hessians(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class Quadratic(Objective):
    """-1/2 (x'Wx + u'Ru) a step, W and R positive definite, drawn at random."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)

        def positive(size: int) -> torch.Tensor:
            root = random.normal(size=(size, size))
            return torch.from_numpy(root @ root.T / size + 0.1 * np.eye(size))

        self.weight, self.effort = positive(STATES), positive(ACTIONS)
        self.dynamics = LinearDynamics(
            torch.from_numpy(random.normal(size=(STATES, STATES))),
            torch.from_numpy(random.normal(size=(STATES, ACTIONS))),
        )

    def reward(self, state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return -0.5 * (
            torch.einsum("...i,ij,...j->...", following, self.weight, following)
            + torch.einsum("...i,ij,...j->...", action, self.effort, action)
        )

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        states = self.dynamics.rollout(torch.from_numpy(state), actions.double(), None)
        return self.reward(states[:, :-1], actions.double(), states[:, 1:]).sum(dim=-1)

    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def trajectory_problem(self, spec: RobotSpec) -> TrajectoryProblem:
        return TrajectoryProblem(self.dynamics, self.reward, spec)

    def expanded(self, state: Array) -> tuple[Array, Array]:
        """Slope [H m] and curvature [H m, H m] of minus the return by all actions, at actions of zero."""

        def penalty(flat: torch.Tensor) -> torch.Tensor:
            return -self(state, flat.reshape(1, HORIZON, ACTIONS))[0]

        zero = torch.zeros(HORIZON * ACTIONS, dtype=torch.float64)
        slope = torch.autograd.functional.jacobian(penalty, zero)
        return slope.numpy(), torch.autograd.functional.hessian(penalty, zero).numpy()


def adapted(objective: Quadratic, state: Array, mean: Array, covariance: Array, weight: float, limit: float) -> Adapted:
    near = NearPolicyObjective(objective, spec_of(limit))
    settings = {"kind": "ilqr", "horizon": HORIZON, "iterations": 20, "regularisation": 0.0, "population_size": 2}
    planner = make_planner(settings, spec_of(limit), near, 0)
    assert isinstance(planner, Ilqr)
    time_step = TimeStep(1, 0, StepType.FIRST, state, np.full(ACTIONS, np.nan))
    return AdaptiveTeacher(planner, near).adapted(time_step, mean, covariance, weight)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("weight", [1e-3, 1.0, 30.0])
def test_the_minimiser_is_that_of_the_quadratic_and_the_divergence(seed: int, weight: float) -> None:
    random, objective = np.random.default_rng(seed), Quadratic(seed)
    state, mean = random.normal(size=STATES), random.normal(size=ACTIONS)
    covariance = np.cov(random.normal(size=(ACTIONS, 9))) + 0.1 * np.eye(ACTIONS)
    slope, curvature = objective.expanded(state)
    pull = weight * np.linalg.inv(covariance)
    slope[:ACTIONS] -= pull @ mean
    curvature[:ACTIONS, :ACTIONS] += pull
    best = np.linalg.solve(curvature, -slope)[:ACTIONS]
    later = curvature[ACTIONS:, ACTIONS:]
    first = curvature[:ACTIONS, :ACTIONS] - curvature[:ACTIONS, ACTIONS:] @ np.linalg.solve(
        later, curvature[ACTIONS:, :ACTIONS]
    )
    found = adapted(objective, state, mean, covariance, weight, 1e3)
    np.testing.assert_allclose(found.mean, best, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.covariance, weight * np.linalg.inv(first), rtol=1e-4)
    ours, theirs = (
        MultivariateNormal(torch.from_numpy(centre.astype(float)), torch.from_numpy(spread))
        for centre, spread in ((found.mean, found.covariance), (mean, covariance))
    )
    assert found.divergence == pytest.approx(float(kl_divergence(ours, theirs)), rel=1e-6)


def test_a_heavy_divergence_ends_at_the_policy_and_a_light_one_at_the_planner() -> None:
    random, objective = np.random.default_rng(5), Quadratic(5)
    state, mean, covariance = random.normal(size=STATES), np.array([0.7, -0.4]), 0.3 * np.eye(ACTIONS)
    slope, curvature = objective.expanded(state)
    plain = np.linalg.solve(curvature, -slope)[:ACTIONS]
    light, middle, heavy = (adapted(objective, state, mean, covariance, weight, 1e3) for weight in (1e-7, 0.3, 1e7))
    np.testing.assert_allclose(light.mean, plain, atol=1e-4)
    np.testing.assert_allclose(heavy.mean, mean, atol=1e-4)
    np.testing.assert_allclose(heavy.covariance, covariance, rtol=1e-3, atol=1e-6)
    assert light.divergence > middle.divergence > heavy.divergence >= -1e-9


def test_the_action_stays_within_its_limits() -> None:
    found = adapted(Quadratic(1), np.array([3.0, -2.0, 4.0]), np.array([2.0, 2.0]), 0.1 * np.eye(ACTIONS), 1.0, 0.5)
    assert (np.abs(found.mean) <= 0.5).all() and np.abs(found.mean).max() == pytest.approx(0.5)


def test_divergence_of_equals_is_zero() -> None:
    spread = np.array([[0.4, 0.1], [0.1, 0.2]])
    assert divergence(np.ones(2), spread, np.ones(2), spread) == pytest.approx(0.0, abs=1e-12)
