# SPDX-License-Identifier: Apache-2.0
"""Imagined trajectories: the numbers of rollouts, and gradients that differences confirm."""

import math

import pytest
import torch
from problems import SPEC, sample

from mbrl_dynamics.closed_loop import closed_loop_rollout
from mbrl_dynamics.imagination import GradientLimit, imagine
from mbrl_dynamics.propagation import PROPAGATIONS
from mbrl_dynamics.registry import make_model
from mbrl_dynamics.rollout import RolloutInterrupted

torch.set_num_threads(1)
HORIZON, PARTICLES = 5, 10
STARTS = torch.tensor([[0.1, 2.0, 0.2, -0.3], [-0.4, -1.0, 0.0, 0.5], [0.0, 0.1, 1.0, 0.0]])


@pytest.fixture(scope="module")
def model():
    learned = make_model("ensemble", {"hidden_size": 16, "first_steps": 30}, SPEC, 0)
    learned.fit(sample(200, 1), 0)
    return learned


def generator():
    return torch.Generator().manual_seed(3)


def policy_of(weights):
    return lambda states, step: 2.0 * torch.tanh(states @ weights.unsqueeze(1) + 0.1 * step)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_each_start_has_the_trajectories_of_a_rollout_from_it(model, propagation):
    weights = torch.tensor([0.3, -0.2, 0.5, 0.1])
    both = imagine(model, STARTS, policy_of(weights), HORIZON, PARTICLES, propagation, generator())
    for index, start in enumerate(STARTS):
        one = closed_loop_rollout(
            model, start, policy_of(weights), 1, HORIZON, PARTICLES, propagation, generator()
        )  # fmt: skip
        torch.testing.assert_close(both.states[index].detach(), one.states[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(both.actions[index].detach(), one.actions[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_gradients_by_the_policy_are_those_of_differences(model, propagation):
    double = model.clone()
    double.weights = {name: value.double() for name, value in model.weights.items()}
    for name, value in vars(model.normalisation).items():
        setattr(double.normalisation, name, value.double())

    def worth(weights):
        found = imagine(double, STARTS.double(), policy_of(weights), HORIZON, PARTICLES, propagation, generator())
        return found.states[..., -1, :].square().sum() + found.actions.square().mean()

    weights = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(worth, weights, eps=1e-6, atol=1e-5, rtol=1e-4)


def test_a_limit_cuts_outliers_and_nothing_else():
    scale, gradient = torch.tensor([1.0, 0.5]), torch.zeros(1, 2, 5)
    gradient[0, 0] = torch.tensor([1.0, 1.0, 1.0, 30.0, math.nan])
    gradient[0, 1] = torch.tensor([0.0, 0.0, 0.0, 80.0, 0.0])
    limit = GradientLimit(scale, 3.0)
    cut = limit(gradient)
    torch.testing.assert_close(cut[..., :3], gradient[..., :3])
    # The fourth has a norm of 50 in units of scale, against a median of 1; the last is no number.
    torch.testing.assert_close(cut[0, :, 3], gradient[0, :, 3] * 3.0 / 50.0)
    assert (cut[..., 4] == 0.0).all() and (limit.seen, limit.cut) == (5, 2)
    assert (limit(torch.full((1, 2, 3), math.inf)) == 0.0).all()


def test_gradients_come_back_through_a_limit(model):
    weights = torch.tensor([0.3, -0.2, 0.5, 0.1], requires_grad=True)
    gradients = []
    for limit in (None, GradientLimit(torch.ones(4), 1e9), GradientLimit(torch.ones(4), 1.0)):
        found = imagine(model, STARTS, policy_of(weights), HORIZON, PARTICLES, "tsinf", generator(), limit=limit)
        gradients.append(torch.autograd.grad(found.states[..., -1, :].square().sum(), weights)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[2].norm() < gradients[0].norm()


def test_what_does_not_fit_is_refused(model):
    policy = policy_of(torch.zeros(4))
    with pytest.raises(ValueError, match=r"starts: got shape \[3, 3\], expected \[N, 4\]"):
        imagine(model, STARTS[:, :3], policy, HORIZON, PARTICLES, "ts1", generator())
    with pytest.raises(ValueError, match=r"policy: got actions of shape \[3, 10\], expected \[3, 10, 1\]"):
        imagine(model, STARTS, lambda states, step: states[..., 0], HORIZON, PARTICLES, "ts1", generator())
    with pytest.raises(ValueError, match="multiple of the model's 5 members"):
        imagine(model, STARTS, policy, HORIZON, 7, "ts1", generator())
    with pytest.raises(RolloutInterrupted):
        imagine(model, STARTS, policy, HORIZON, PARTICLES, "ts1", generator(), keep_going=lambda: False)
