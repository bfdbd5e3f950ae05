# SPDX-License-Identifier: Apache-2.0
"""Values and value gradients against recursions, closed forms and automatic differentiation."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mbrl_core.policies import make_policy
from mbrl_core.policies.network import NetworkPolicy
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import make_task
from mbrl_dynamics.model import DynamicsModel, GaussianPrediction
from mbrl_dynamics.registry import make_model
from mbrl_policy.value_function import ValueFunction, mixed_returns
from mbrl_policy.value_gradients import (
    StepDerivatives,
    inferred_action_noise,
    inferred_dynamics_noise,
    one_step_action_gradients,
    policy_slopes,
    reparameterised_action,
    step_derivatives,
    trajectory_action_gradients,
)

torch.set_num_threads(1)
ROBOT_FILE = Path(__file__).resolve().parents[3] / "config" / "robots" / "cartpole.yaml"
SPEC = load_robot(ROBOT_FILE).spec
TASK = make_task("cartpole_tip")
DISCOUNT, STEPS = 0.97, 12


class Analytic(DynamicsModel):
    """Two members of smooth dynamics with noise that depends on state and action, in double precision."""

    kind = "analytic"

    def __init__(self) -> None:
        super().__init__(None, SPEC, members=2)

    def predict(self, state, action):
        lever = torch.tensor([0.02, 0.03]).view(2, 1).to(state) * action[..., 0].expand(2, -1)
        swing = torch.sin(state[..., 1]).expand(2, -1)
        change = torch.stack(
            [0.04 * state[..., 2].expand(2, -1), 0.04 * state[..., 3].expand(2, -1), lever, 0.1 * swing - lever], dim=-1
        )
        spread = 0.05 + 0.02 * torch.tanh(state[..., [3, 2, 1, 0]] * action)
        return GaussianPrediction(state + change, spread.square().expand(2, *change.shape[1:]))

    def fit(self, transitions, seed, keep_going=None):
        raise NotImplementedError

    def state_arrays(self):
        return {}

    def load_arrays(self, arrays):
        raise NotImplementedError


def policy(squash: bool = True) -> NetworkPolicy:
    made = make_policy("mlp", {"hidden_units": 8, "covariance": "state", "squash": squash}, SPEC, 1)
    with torch.no_grad():
        for values in made.parameters():
            values.add_(0.3 * torch.randn(values.shape, generator=torch.Generator().manual_seed(values.numel())))
    made = made.double()
    made._lower, made._upper = made._lower.double(), made._upper.double()
    return made


def observed(member: int, actor: NetworkPolicy):
    """A trajectory that one member's dynamics and the policy make from known noises."""
    random = torch.Generator().manual_seed(5)
    xi = torch.randn(STEPS, 4, generator=random, dtype=torch.float64)
    eta = torch.randn(STEPS, 1, generator=random, dtype=torch.float64)
    state = torch.tensor([0.1, 2.8, 0.2, -0.5], dtype=torch.float64)
    states, actions, rewards = [state], [], []
    for step in range(STEPS):
        actions.append(reparameterised_action(actor, state, eta[step]))
        prediction = Analytic().predict(state[None], actions[-1][None])
        following = (prediction.mean + prediction.variance.sqrt() * xi[step])[member, 0]
        rewards.append(TASK.reward(state, actions[-1], following))
        state = following
        states.append(state)
    return torch.stack(states), torch.stack(actions), torch.stack(rewards), xi, eta


@pytest.mark.parametrize("squash", [True, False])
def test_noises_that_made_a_trajectory_are_inferred(squash):
    actor = policy(squash)
    states, actions, _, xi, eta = (values.detach() for values in observed(1, actor))
    torch.testing.assert_close(inferred_action_noise(actor, states[:-1], actions), eta, rtol=1e-6, atol=1e-6)
    turned = states.clone()
    turned[:, 1] -= 2.0 * math.pi
    for following in (states, turned):
        noise, same = inferred_dynamics_noise(Analytic(), states[:-1], actions, following[1:])
        torch.testing.assert_close(noise[1], xi)
        torch.testing.assert_close(same, states[1:].expand(2, -1, -1))


def single(member: int) -> Analytic:
    """One of the two, alone."""

    class Alone(Analytic):
        def __init__(self) -> None:
            super().__init__()
            self.members = 1

        def predict(self, state, action):
            both = Analytic.predict(self, state, action)
            return GaussianPrediction(both.mean[member : member + 1], both.variance[member : member + 1])

    return Alone()


@pytest.mark.parametrize("member", [0, 1])
def test_the_recursion_is_backpropagation_along_the_observed_trajectory(member):
    actor = policy()
    states, actions, rewards, _, eta = observed(member, actor)
    discounts = DISCOUNT ** torch.arange(STEPS, dtype=torch.float64)
    expected = torch.autograd.grad((discounts * rewards).sum(), list(actor.parameters()))
    states, actions = states.detach(), actions.detach()
    steps = step_derivatives(single(member), TASK, states[:-1], actions, states[1:])
    noise = inferred_action_noise(actor, states[:-1], actions)
    torch.testing.assert_close(noise, eta, rtol=1e-6, atol=1e-6)
    gradients = trajectory_action_gradients(
        steps, policy_slopes(actor, states[:-1], noise), DISCOUNT, torch.zeros(4, dtype=torch.float64), 1e9
    )
    gain = (gradients * reparameterised_action(actor, states[:-1], noise)).sum()
    found = torch.autograd.grad(gain, list(actor.parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_derivatives_of_an_ensemble_are_the_mean_of_those_of_its_members():
    states, actions, *_ = (values.detach() for values in observed(0, policy()))
    arguments = TASK, states[:-1], actions, states[1:]
    both = step_derivatives(Analytic(), *arguments)
    alone = [step_derivatives(single(member), *arguments) for member in (0, 1)]
    for name in (field.name for field in dataclasses.fields(StepDerivatives)):
        mean = 0.5 * (getattr(alone[0], name) + getattr(alone[1], name))
        torch.testing.assert_close(getattr(both, name), mean)


def test_without_noise_derivatives_are_the_jacobians_of_the_model():
    model = make_model("mujoco", {"robot_file": str(ROBOT_FILE)}, SPEC, 0)
    random = torch.Generator().manual_seed(1)
    state = torch.randn(6, 4, generator=random, dtype=torch.float64)
    action = torch.rand(6, 1, generator=random, dtype=torch.float64)
    found = step_derivatives(model, TASK, state, action, model.predict(state, action).mean[0])
    by_state, by_action = model.jacobians(state, action)
    torch.testing.assert_close(found.by_state, by_state[0])
    torch.testing.assert_close(found.by_action, by_action[0])
    assert found.reward_by_state.abs().max() > 0.0


def test_one_step_with_the_true_value_slopes_is_the_recursion():
    actor = policy()
    states, actions, *_ = (values.detach() for values in observed(1, actor))
    steps = step_derivatives(single(1), TASK, states[:-1], actions, states[1:])
    slopes = policy_slopes(actor, states[:-1], inferred_action_noise(actor, states[:-1], actions))
    infinite = trajectory_action_gradients(steps, slopes, DISCOUNT, torch.zeros(4, dtype=torch.float64), 1e9)
    # V'(s_t) of every state by one step from that of the next.
    ahead = torch.zeros(STEPS, 4, dtype=torch.float64)
    for step in reversed(range(1, STEPS)):
        later = StepDerivatives(*(value[step : step + 1] for value in vars(steps).values()))
        by_action = one_step_action_gradients(later, ahead[step : step + 1], DISCOUNT)[0]
        onward = DISCOUNT * ahead[step] @ later.by_state[0]
        ahead[step - 1] = later.reward_by_state[0] + onward + by_action @ slopes[step]
    discounts = DISCOUNT ** torch.arange(STEPS, dtype=torch.float64)
    one_step = discounts[:, None] * one_step_action_gradients(steps, ahead, DISCOUNT)
    torch.testing.assert_close(one_step.float(), infinite.float(), rtol=1e-4, atol=1e-6)


def test_a_value_gradient_that_explodes_is_cut():
    count = 60
    unstable = StepDerivatives(
        3.0 * torch.eye(2).expand(count, -1, -1), torch.ones(count, 2, 1), torch.ones(count, 2), torch.zeros(count, 1)
    )
    slopes = torch.zeros(count, 1, 2)
    free = trajectory_action_gradients(unstable, slopes, 1.0, torch.zeros(2), 1e30)
    cut = trajectory_action_gradients(unstable, slopes, 1.0, torch.zeros(2), 10.0)
    assert free.abs().max() > 1e18 and cut.abs().max() <= 10.0 * math.sqrt(2.0) + 1e-4
    torch.testing.assert_close(cut[-2:], free[-2:])


@pytest.mark.parametrize("mixing", [0.0, 0.6, 1.0])
def test_mixed_returns_are_weighted_sums_of_returns_of_all_lengths(mixing):
    random = np.random.default_rng(2)
    rewards, values = random.normal(size=5), random.normal(size=5)
    horizon = len(rewards)

    def of_length(begin: int, length: int) -> float:
        total = sum(DISCOUNT**step * rewards[begin + step] for step in range(length))
        return total + DISCOUNT**length * values[begin + length - 1]

    for begin in range(horizon):
        longest = horizon - begin
        expected = mixing ** (longest - 1) * of_length(begin, longest)
        expected += sum((1.0 - mixing) * mixing ** (n - 1) * of_length(begin, n) for n in range(1, longest))
        found = mixed_returns(torch.from_numpy(rewards), torch.from_numpy(values), DISCOUNT, mixing)
        assert float(found[begin]) == pytest.approx(expected)


def test_nothing_counts_beyond_the_end_of_an_episode():
    rewards, values = torch.ones(4), torch.full((4,), 100.0)
    ended = torch.tensor([0.9, 0.0, 0.9, 0.9])
    found = mixed_returns(rewards, values, ended, 1.0)
    torch.testing.assert_close(found[:2], torch.tensor([1.9, 1.0]))


def test_a_value_function_does_not_see_turns_and_follows_another():
    first, second = (ValueFunction(SPEC, 2, 16, 0.99, seed) for seed in (0, 1))
    states = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert (first(states) == 0.0).all()
    with torch.no_grad():
        first.layers[-1].weight.fill_(0.1)
    first.normalise(3.0 * states)
    turned = states + torch.tensor([0.0, 2.0 * math.pi, 0.0, 0.0])
    torch.testing.assert_close(first(turned), first(states), rtol=1e-4, atol=1e-4)
    second.follow(first, 0.5)
    assert not torch.allclose(first(states), second(states))
    second.follow(first, 1.0)
    torch.testing.assert_close(first(states), second(states))
