# SPDX-License-Identifier: Apache-2.0
"""Random linear-Gaussian problems, and samples of them."""

import numpy as np

from mbrl_core.specs import Array
from mbrl_dynamics.local_linear import LocalDynamics
from mbrl_planner.lqr import QuadraticPenalty
from mbrl_policy.linear_gaussian import LinearGaussianController
from mbrl_policy.local_problem import LocalProblem


def random_covariances(random: np.random.Generator, *shape: int) -> Array:
    """[..., n, n] of shape (..., n), positive definite."""
    root = random.normal(size=(*shape, shape[-1]))
    return root @ np.swapaxes(root, -1, -2) / shape[-1] + 0.2 * np.eye(shape[-1])


def random_controller(seed: int, horizon: int, states: int, actions: int) -> LinearGaussianController:
    random = np.random.default_rng([seed, 1])
    return LinearGaussianController(
        0.4 * random.normal(size=(horizon, actions, states)),
        random.normal(size=(horizon, actions)),
        random_covariances(random, horizon, actions),
    )


def random_problem(seed: int, horizon: int = 6, states: int = 3, actions: int = 2) -> LocalProblem:
    """A convex one, every number of it different."""
    random = np.random.default_rng([seed, 2])
    dynamics = LocalDynamics(
        random.normal(size=(horizon, states, states)) / np.sqrt(states),
        random.normal(size=(horizon, states, actions)),
        random.normal(size=(horizon, states)),
        0.1 * random_covariances(random, horizon, states),
    )
    weight = random_covariances(random, horizon, states + actions)
    linear = random.normal(size=(horizon, states + actions))
    penalty = QuadraticPenalty(
        weight[:, :states, :states], weight[:, states:, :states], weight[:, states:, states:],
        linear[:, :states], linear[:, states:],
    )  # fmt: skip
    constant, mean = random.normal(size=horizon), random.normal(size=states)
    return LocalProblem(dynamics, penalty, constant, mean, 0.3 * random_covariances(random, states))


def sampled(
    controller: LinearGaussianController, dynamics: LocalDynamics, mean: Array, covariance: Array, count: int, seed: int
) -> tuple[Array, Array]:
    """States [count, H + 1, n] and actions [count, H, m], step by step."""
    random = np.random.default_rng([seed, 3])
    state = random.multivariate_normal(mean, covariance, count)
    states, actions = [state], []
    for step in range(controller.horizon):
        action = controller.sample(state, step, random)
        noise = random.multivariate_normal(np.zeros(len(mean)), dynamics.covariance[step], count)
        state = state @ dynamics.matrix[step].T + action @ dynamics.control[step].T + dynamics.offset[step] + noise
        states.append(state)
        actions.append(action)
    return np.stack(states, axis=1), np.stack(actions, axis=1)


def samples_of(problem: LocalProblem, controller: LinearGaussianController, count: int, seed: int = 0):
    return sampled(controller, problem.dynamics, problem.mean, problem.covariance, count, seed)


def assert_mean(samples: Array, expected: Array | float, errors: float = 5.0) -> None:
    """The mean over the first axis is `expected` within so many of its standard errors."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(axis=0) - expected) <= errors * error + 1e-12).all()
