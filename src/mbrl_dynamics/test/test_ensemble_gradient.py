# SPDX-License-Identifier: Apache-2.0
"""The written-out gradient of training against automatic differentiation."""

import pytest
import torch
from problems import SPEC, sample

from mbrl_dynamics.ensemble_gradient import BOUND_PENALTY, LikelihoodGradient
from mbrl_dynamics.registry import make_model

torch.set_num_threads(1)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("hidden_layers", [1, 3])
def test_gradient_is_that_of_automatic_differentiation(hidden_layers, beta):
    model = make_model("ensemble", {"hidden_layers": hidden_layers, "hidden_size": 16, "first_steps": 20}, SPEC, 0)
    model.fit(sample(200, 1), 0)
    likelihood = LikelihoodGradient(model.weights, beta)
    random = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(5, 64, 6, generator=random), torch.randn(5, 64, 4, generator=random)
    loss = likelihood(inputs, targets)
    model.weights = {name: value.clone().requires_grad_(True) for name, value in model.weights.items()}
    mean, log_variance = model.forward(inputs)
    terms = (targets - mean) ** 2 * torch.exp(-log_variance) + log_variance
    torch.testing.assert_close(loss, terms.sum(dim=-1).mean().detach())
    weighted = (terms * torch.exp(beta * log_variance.detach())).sum(dim=-1).mean()
    bounds = model.weights["log_variance_upper"].sum() - model.weights["log_variance_lower"].sum()
    (weighted + BOUND_PENALTY * bounds).backward()
    gradients = torch.cat([likelihood.decayed.grad, likelihood.others.grad])
    names = list(likelihood.weights)
    expected = torch.cat([model.weights[name].grad.reshape(-1) for name in names])
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-5)
    assert (expected != 0.0).float().mean() > 0.99


def test_weights_are_views_of_what_the_optimiser_moves():
    model = make_model("ensemble", {"hidden_size": 8}, SPEC, 0)
    likelihood = LikelihoodGradient(model.weights, 0.5)
    before = model.weights["weight_0"].clone()
    likelihood.decayed += 1.0
    assert torch.equal(likelihood.weights["weight_0"], before + 1.0)
    assert torch.equal(model.weights["weight_0"], before)
