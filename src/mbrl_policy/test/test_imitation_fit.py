# SPDX-License-Identifier: Apache-2.0
"""What is minimised where a policy is fitted to labels: the mean's part, the noise's, a mixture's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_core.policies import Policy, make_policy
from mbrl_core.robot_file import load_robot
from mbrl_policy.imitation.fit import FitConfig, fit_policy
from mbrl_policy.imitation.label_tensors import LabelTensors
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.imitation.losses import Losses

SPEC = load_robot(Path(__file__).resolve().parents[3] / "config" / "robots" / "pendulum.yaml").spec


def labels_of(count: int, std: float = 0.0) -> Labels:
    """Actions 0.5 sin(3 x_0), with noise of `std` where x_1 > 0 and a tenth of it elsewhere."""
    random = np.random.default_rng(0)
    states = random.normal(size=(count, 2))
    noise = std * np.where(states[:, 1:] > 0.0, 1.0, 0.1) * random.normal(size=(count, 1))
    return Labels.of_actions(states, 0.5 * np.sin(3.0 * states[:, :1]) + noise)


def fitted(labels: Labels, seed: int = 0, steps: int = 1500, **settings: object) -> tuple[Policy, float]:
    policy = make_policy("mlp", settings, SPEC, 0)
    config = FitConfig(gradient_steps=steps, batch_size=128, learning_rate=0.01)
    return policy, fit_policy(policy, labels, config, seed, lambda: True, fresh=True)


def test_noise_that_depends_on_the_state_costs_the_mean_nothing() -> None:
    """Were the hidden layers fitted to the noise as well, the loss would be some thousand times as large."""
    loss = {kind: fitted(labels_of(1000), covariance=kind)[1] for kind in ("state", "diagonal")}
    assert loss["state"] < 1.1 * loss["diagonal"]


def test_noise_that_depends_on_the_state_is_learned() -> None:
    policy, _ = fitted(labels_of(1000, 0.2), squash=False)
    found = policy.linearise(torch.tensor([[0.0, -1.0], [0.0, 1.0]])).covariance.sqrt().flatten().tolist()
    assert found == pytest.approx([0.02, 0.2], rel=0.5)


def gradients_of(policy: Policy) -> tuple[LabelTensors, list[Tensor]]:
    data = LabelTensors(labels_of(30, 0.1), policy, 0.0)
    return data, Losses(policy, data.all(), data.half_range).gradients(list(policy.parameters()))


@pytest.mark.parametrize("squash", [False, True])
def test_a_mixture_maximises_its_likelihood(squash: bool) -> None:
    policy = make_policy("mixture", {"squash": squash}, SPEC, 0)
    data, found = gradients_of(policy)
    surprise = -policy.act(data.states).log_prob(data.all().target).mean()
    expected = torch.autograd.grad(surprise, list(policy.parameters()))
    torch.testing.assert_close(found, list(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("squash", [False, True])
def test_a_mean_minimises_its_squared_error(squash: bool) -> None:
    policy = make_policy("mlp", {"squash": squash}, SPEC, 0)
    data, found = gradients_of(policy)
    mean, _ = policy.gaussian(data.states)
    error = ((policy.squashed(mean) if squash else mean) - data.all().target) / data.half_range
    expected = list(torch.autograd.grad(error.square().mean(), list(policy.parameters())))
    for last in (-2, -1):  # of whose rows the second half says the noise
        assert float(found[last][1:].abs().max()) > 0.0
        found[last], expected[last] = found[last][:1], expected[last][:1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_batch_as_large_as_the_data_is_all_of_it() -> None:
    learned = [fitted(labels_of(100), seed, steps=5)[0].mode(torch.ones(2)).item() for seed in (0, 1)]
    assert learned[0] == learned[1]
