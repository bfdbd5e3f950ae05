# SPDX-License-Identifier: Apache-2.0
"""Mixture density networks: the density of the mixture, its samples, and what acts."""

import math

import numpy as np
import pytest
import torch
from policy_problems import SPEC, drawn_policy, states
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from mbrl_core.config import ConfigurationError
from mbrl_core.policies import MixtureDistribution, MixturePolicy, make_policy


def mixture(**changes: object) -> MixturePolicy:
    policy = drawn_policy(("mixture", changes))
    assert isinstance(policy, MixturePolicy)
    return policy


def test_the_density_is_the_weighted_sum_of_scipys() -> None:
    policy = mixture()
    state = states(1)[0]
    logits, means, stds = (part.detach().double().numpy() for part in policy.parts(state))
    points = np.random.default_rng(0).normal(size=(40, 2))
    weights = np.exp(logits - logsumexp(logits))
    expected = sum(
        weight * multivariate_normal(mean, np.diag(std**2)).pdf(points)
        for weight, mean, std in zip(weights, means, stds, strict=True)
    )
    found = policy.act(state).log_prob(torch.from_numpy(points).float())
    np.testing.assert_allclose(found.detach().numpy(), np.log(expected), rtol=1e-4, atol=1e-4)


def test_samples_are_spread_as_the_weights_say() -> None:
    policy = mixture()
    with torch.no_grad():
        _, means, _ = policy.parts(states(1)[0])
    logits = torch.log(torch.tensor([0.2, 0.7, 0.1]))
    apart = torch.tensor([[-5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    policy.parts = lambda state: (logits, apart, torch.full((3, 2), 0.1))  # type: ignore[method-assign]
    actions = policy.act(states(1)[0])
    assert isinstance(actions, MixtureDistribution) and means.shape == (3, 2)
    torch.manual_seed(0)
    samples = actions.sample((20_000,))
    nearest = (samples[:, None] - apart).square().sum(dim=-1).argmin(dim=1).bincount() / len(samples)
    torch.testing.assert_close(nearest, logits.exp(), atol=0.02, rtol=0.0)
    assert float((samples[:, None] - apart).square().sum(dim=-1).min(dim=1).values.mean()) == pytest.approx(
        0.02, rel=0.1
    )
    with pytest.raises(NotImplementedError, match="no closed form"):
        actions.entropy()
    with pytest.raises(NotImplementedError):
        actions.rsample()


def test_what_acts_is_the_heaviest_components_mean() -> None:
    policy = mixture(squash=True)
    batch = states(50)
    logits, means, stds = policy.parts(batch)
    index = logits.argmax(dim=-1)
    assert len(index.unique()) > 1
    rows = torch.arange(50)
    torch.testing.assert_close(policy.mode(batch), policy.squashed(means[rows, index]))
    mean, factor = policy.gaussian(batch)
    torch.testing.assert_close(mean, means[rows, index])
    torch.testing.assert_close(factor.diagonal(dim1=-2, dim2=-1), stds[rows, index])
    fast = policy.fast()
    for row in range(50):
        np.testing.assert_allclose(
            fast.action(batch[row].double().numpy(), 0), policy.mode(batch[row]).detach().numpy(), atol=2e-5
        )


def test_components_begin_apart_within_the_limits_and_never_narrower_than_told() -> None:
    for squash in (False, True):
        policy = make_policy("mixture", {"components": 4, "squash": squash, "least_std": 0.2}, SPEC, 0)
        assert isinstance(policy, MixturePolicy)
        _, means, _ = policy.parts(torch.zeros(4))
        actions = policy.squashed(means) if squash else means
        lower, upper = (torch.tensor(limit) for limit in (SPEC.action.lower, SPEC.action.upper))
        shares = (actions - 0.5 * (lower + upper)) / (0.5 * (upper - lower))
        torch.testing.assert_close(shares.T, torch.linspace(-0.5, 0.5, 4).expand(2, 4), atol=0.05, rtol=0.0)
        with torch.no_grad():
            policy.layers[-1].bias[-8:] = -50.0  # type: ignore[union-attr,index]
        assert policy.parts(states(3))[2].min().item() == pytest.approx(0.2)
    with pytest.raises(ConfigurationError, match="'covariance': got 'full'"):
        make_policy("mixture", {"covariance": "full"}, SPEC, 0)


def test_one_component_is_a_gaussian() -> None:
    policy = mixture(components=1)
    actions = policy.act(states(5))
    points = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(actions.log_prob(points), actions.gaussian.log_prob(points))
    assert math.isfinite(actions.log_prob(points).sum().item())
