# SPDX-License-Identifier: Apache-2.0
"""The supervised objective and the linearised policy: against finite differences and closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from local_problems import random_covariances
from torch.distributions import MultivariateNormal, kl_divergence

from mbrl_core.specs import Array
from mbrl_policy.linearise import LineariseConfig, linearise_policy
from mbrl_policy.supervised import best_covariance, supervised_objective

BATCH, SIZE = 7, 2


def batch() -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    arrays = {
        "policy_means": random.normal(size=(BATCH, SIZE)), "policy_covariances": random_covariances(random, SIZE),
        "target_means": random.normal(size=(BATCH, SIZE)),
        "target_precisions": random_covariances(random, BATCH, SIZE), "weights": random.uniform(0.1, 2.0, BATCH),
    }  # fmt: skip
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def test_the_objective_is_the_divergence_less_what_the_policy_cannot_change() -> None:
    values = batch()
    policy = MultivariateNormal(values["policy_means"], values["policy_covariances"])
    target = MultivariateNormal(values["target_means"], precision_matrix=values["target_precisions"])
    weights = values["weights"] / values["weights"].sum()
    constant = 0.5 * torch.logdet(values["target_precisions"]) + 0.5 * SIZE
    expected = (weights * (kl_divergence(policy, target) + constant)).sum()
    assert float(supervised_objective(**values)) == pytest.approx(float(expected), rel=1e-10)
    each = values["policy_covariances"].expand(BATCH, -1, -1)
    assert float(supervised_objective(**{**values, "policy_covariances": each})) == pytest.approx(float(expected))


def test_gradients_are_finite_differences() -> None:
    values = batch()
    means, root = values["policy_means"].requires_grad_(), torch.linalg.cholesky(values["policy_covariances"])
    root.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda means, root: supervised_objective(
            **{**values, "policy_means": means, "policy_covariances": root @ root.T}
        ),
        (means, root),
    )


def test_a_linear_policy_comes_to_weighted_least_squares() -> None:
    """Gradient descent on the objective ends where the normal equations say: sum nu x C^-1 (W x - mu) = 0."""
    values, random = batch(), np.random.default_rng(1)
    inputs = torch.from_numpy(np.concatenate([random.normal(size=(BATCH, 2)), np.ones((BATCH, 1))], axis=1))
    precisions, weights = values["target_precisions"], values["weights"]
    # vec(W) by rows: (C^-1 kron x x') vec(W) = C^-1 mu x'.
    normal = torch.einsum("b,bij,bk,bl->ikjl", weights, precisions, inputs, inputs).reshape(3 * SIZE, -1)
    right = torch.einsum("b,bij,bj,bk->ik", weights, precisions, values["target_means"], inputs).reshape(-1)
    expected = torch.linalg.solve(normal, right).reshape(SIZE, 3)

    matrix = torch.zeros(SIZE, 3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([matrix], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = supervised_objective(**{**values, "policy_means": inputs @ matrix.T})
        loss.backward()
        return loss

    optimiser.step(closure)
    np.testing.assert_allclose(matrix.detach().numpy(), expected.numpy(), atol=1e-6)


def test_the_best_covariance_has_no_slope() -> None:
    values = batch()
    best = best_covariance(values["target_precisions"], values["weights"])
    mean = torch.einsum("b,bij->ij", values["weights"] / values["weights"].sum(), values["target_precisions"])
    np.testing.assert_allclose(best.numpy(), torch.linalg.inv(mean).numpy(), rtol=1e-12)
    best.requires_grad_()
    (slope,) = torch.autograd.grad(supervised_objective(**{**values, "policy_covariances": best}), best)
    np.testing.assert_allclose(slope.numpy(), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("target_means", lambda value: value[1:], "means: got"),
        ("target_means", lambda value: value * np.nan, "target means: have non-finite"),
        ("target_precisions", lambda value: value[:, :1], "target precisions .* expected"),
        ("target_precisions", lambda value: value * np.inf, "have non-finite"),
        ("policy_covariances", lambda value: -value, "policy covariances: not positive definite"),
        ("policy_covariances", lambda value: value[:1], "policy covariances: got shape"),
        ("weights", lambda value: -value, "weights: expected none below 0"),
        ("weights", lambda value: 0.0 * value, "and one above"),
    ],
)
def test_bad_input_is_named(name: str, change: Any, text: str) -> None:
    values = batch()
    with pytest.raises(ValueError, match=text):
        supervised_objective(**{**values, name: change(values[name])})


def rollouts(count: int, seed: int, horizon: int = 12) -> Array:
    """States [count, horizon + 1, 3] about a curve."""
    random = np.random.default_rng(seed)
    time = np.arange(horizon + 1)[:, None] * np.array([0.1, -0.2, 0.05])
    return np.sin(time) * 2.0 + 0.1 * random.normal(size=(count, horizon + 1, 3))


def test_a_linear_policy_is_found_exactly() -> None:
    gains, offsets = np.array([[0.5, -1.0, 2.0], [0.1, 0.0, -0.3]]), np.array([0.2, -0.4])
    states = rollouts(6, 0)
    noise = random_covariances(np.random.default_rng(0), 12, 2)
    found = linearise_policy(states, states[:, :-1] @ gains.T + offsets, noise, LineariseConfig(ridge=1e-10))
    np.testing.assert_allclose(found.gains, np.broadcast_to(gains, (12, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(found.offsets, np.broadcast_to(offsets, (12, 2)), atol=1e-6)
    np.testing.assert_allclose(found.covariances, noise, atol=1e-8)


def test_without_a_prior_it_is_least_squares() -> None:
    states, random = rollouts(30, 1), np.random.default_rng(2)
    answers = np.tanh(states[:, :-1, :2]) + 0.1 * random.normal(size=(30, 12, 2))
    found = linearise_policy(states, answers, np.eye(2), LineariseConfig(strength=0.0, ridge=1e-12))
    for step in range(12):
        inputs = np.concatenate([states[:, step], np.ones((30, 1))], axis=1)
        solution, *_ = np.linalg.lstsq(inputs, answers[:, step], rcond=None)
        np.testing.assert_allclose(found.gains[step], solution[:3].T, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.offsets[step], solution[3], rtol=1e-5, atol=1e-6)
        residual = answers[:, step] - inputs @ solution
        np.testing.assert_allclose(found.covariances[step], np.eye(2) + residual.T @ residual / 30, rtol=1e-6)


def test_the_prior_is_that_of_a_normal_inverse_wishart_posterior() -> None:
    """One step, its moments by hand: the posterior of n0 prior points and N own ones."""
    states, config = rollouts(4, 3, horizon=3), LineariseConfig(window=1, strength=2.5, ridge=1e-12)
    answers = np.sin(states[:, :-1, :1] + states[:, :-1, 1:2])
    found = linearise_policy(states, answers, np.eye(1), config)
    points = np.concatenate([states[:, :3], answers], axis=2)
    own, prior = points[:, 1], points.reshape(-1, 4)
    count, strength = 4.0, 2.5
    between = own.mean(axis=0) - prior.mean(axis=0)
    joint = strength * np.cov(prior.T, bias=True) + count * np.cov(own.T, bias=True)
    joint = (joint + count * strength / (count + strength) * np.outer(between, between)) / (count + strength)
    mean = (count * own.mean(axis=0) + strength * prior.mean(axis=0)) / (count + strength)
    gains = np.linalg.solve(joint[:3, :3], joint[:3, 3:]).T
    np.testing.assert_allclose(found.gains[1], gains, rtol=1e-5)
    np.testing.assert_allclose(found.offsets[1], mean[3:] - gains @ mean[:3], rtol=1e-5)
    np.testing.assert_allclose(found.covariances[1], np.eye(1) + joint[3:, 3:] - gains @ joint[:3, 3:], rtol=1e-6)


def test_few_rollouts_of_a_curved_policy() -> None:
    """Two rollouts cannot tell three slopes; with the prior the answers at other states are still near."""

    def policy(states: Array) -> Array:
        return np.tanh(states @ np.array([[1.0], [0.5], [-1.0]]))

    states, others = rollouts(2, 4), rollouts(200, 5)
    found = linearise_policy(states, policy(states[:, :-1]), 0.01 * np.eye(1))
    least_squares = linearise_policy(states, policy(states[:, :-1]), 0.01 * np.eye(1), LineariseConfig(strength=0.0))
    with_prior, without = (
        np.sqrt(np.mean((one.means(others[:, :-1]) - policy(others[:, :-1])) ** 2)) for one in (found, least_squares)
    )
    assert with_prior < 0.5 * without
    alone = linearise_policy(states[:1], policy(states[:1, :-1]), 0.01 * np.eye(1), LineariseConfig(window=0))
    np.testing.assert_array_equal(alone.gains, 0.0)  # one state tells no slope
    np.testing.assert_allclose(alone.means(states[:1, :-1]), policy(states[:1, :-1]), atol=1e-12)


@pytest.mark.parametrize(
    ("states", "means", "covariances", "text"),
    [
        (np.zeros((2, 5, 3)), np.zeros((2, 6, 1)), np.eye(1), "states: got shape"),
        (np.zeros((5, 3)), np.zeros((2, 4, 1)), np.eye(1), "expected .R, H . 1, n. and .R, H, m."),
        (np.zeros((2, 5, 3)) * np.nan, np.zeros((2, 4, 1)), np.eye(1), "states: has non-finite"),
        (np.zeros((2, 5, 3)), np.zeros((2, 4, 1)), np.eye(2), "policy covariances: got shape"),
        (np.zeros((2, 5, 3)), np.zeros((2, 4, 1)), np.zeros((1, 1)), "policy covariances: singular"),
        (np.zeros((2, 5, 3)), np.zeros((2, 4, 1)), -np.eye(1), "policy covariances: .* smallest eigenvalue -"),
    ],
)
def test_a_regression_refuses_bad_input(states: Array, means: Array, covariances: Array, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        linearise_policy(states, means, covariances)
