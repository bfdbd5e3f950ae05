# SPDX-License-Identifier: Apache-2.0
"""The quadratic model of a reward: exact where the reward is quadratic, second order elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from local_problems import assert_mean, random_controller, random_problem, samples_of

from mbrl_core.specs import ActionSpec
from mbrl_policy.local_problem import local_problem, with_soft_limits

PROBLEM = random_problem(0)
CONTROLLER = random_controller(0, 6, 3, 2)
WEIGHT = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 8)))
LINEAR = torch.from_numpy(np.random.default_rng(1).normal(size=8))
LIMITS = ActionSpec(("a", "b"), ("effort",) * 2, ("N",) * 2, (-1.0, -2.0), (1.0, 6.0), (1.0, 1.0), (np.inf,) * 2)


def quadratic(state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Neither convex nor without cross terms, and not zero at zero."""
    joint = torch.cat([state, action, following], dim=-1)
    return torch.einsum("...i,ij,...j->...", joint, WEIGHT, joint) + joint @ LINEAR + 0.7


def curved(state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    return torch.exp(-following.square().sum(dim=-1)) + torch.sin(state[..., 0] * action[..., 1])


def test_expected_rewards_are_those_of_samples() -> None:
    """The reward looks at the next state, noise and all; where trajectories are expanded does not matter."""
    states, actions = samples_of(PROBLEM, random_controller(1, 6, 3, 2), 4, seed=1)
    start = PROBLEM.mean - states[:, 0].mean(axis=0)  # so that the first state is the problem's
    states = states + start
    problem = local_problem(quadratic, states, actions, PROBLEM.dynamics, PROBLEM.covariance, convex=False)
    np.testing.assert_allclose(problem.mean, PROBLEM.mean)
    states, actions = samples_of(PROBLEM, CONTROLLER, 40_000)
    with torch.no_grad():
        rewards = quadratic(*(torch.from_numpy(part) for part in (states[:, :-1], actions, states[:, 1:]))).numpy()
    assert_mean(rewards, problem.expected_rewards(CONTROLLER))


def test_the_expansion_is_of_second_order() -> None:
    """About a trajectory of the dynamics the error of the mean path's rewards falls with the cube of the distance."""
    dynamics = replace(PROBLEM.dynamics, covariance=np.zeros((6, 3, 3)))
    quiet = CONTROLLER.execution("feedback", np.zeros((7, 3)))
    states, actions = samples_of(replace(PROBLEM, dynamics=dynamics, covariance=np.zeros((3, 3))), quiet, 1)
    problem = local_problem(curved, states, actions, dynamics, np.zeros((3, 3)), convex=False)
    errors = []
    for distance in (0.02, 0.01):
        near = replace(quiet, offsets=quiet.offsets + distance)
        path, moved = samples_of(replace(problem, covariance=np.zeros((3, 3))), near, 1)
        with torch.no_grad():
            rewards = curved(*(torch.from_numpy(part[0]) for part in (path[:, :-1], moved, path[:, 1:]))).numpy()
        errors.append(np.abs(problem.expected_rewards(near) - rewards).sum())
    assert 1e-9 < errors[1] < errors[0] / 6.0


def test_convex_keeps_slope_and_value_at_the_mean() -> None:
    states, actions = samples_of(PROBLEM, CONTROLLER, 5)
    plain, convex = (
        local_problem(curved, states, actions, PROBLEM.dynamics, PROBLEM.covariance, convex=convex)
        for convex in (False, True)
    )

    def parts(problem):
        penalty = problem.penalty
        cross = penalty.cross
        weight = np.block([[penalty.state, np.swapaxes(cross, 1, 2)], [cross, penalty.action]])
        return weight, np.concatenate([penalty.state_linear, penalty.action_linear], axis=1), problem.constant

    centre = np.concatenate([states[:, :-1].mean(axis=0), actions.mean(axis=0)], axis=1)
    slopes, values, least = [], [], []
    for weight, linear, constant in map(parts, (plain, convex)):
        turned = np.einsum("hij,hj->hi", weight, centre)
        slopes.append(turned + linear)
        values.append((centre * (0.5 * turned + linear)).sum(axis=1) + constant)
        least.append(np.linalg.eigvalsh(weight).min())
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-9)
    np.testing.assert_allclose(values[0], values[1], atol=1e-9)
    assert least[0] < -0.01 and least[1] > -1e-9


def test_nothing_is_earned_after_the_end() -> None:
    states, actions = samples_of(PROBLEM, CONTROLLER, 1)
    threshold = float(np.sort(states[0, :-1, 0])[-1])  # the step that is furthest out ends it
    last = int(np.argmax(states[0, :-1, 0]))
    problem = local_problem(
        quadratic, states, actions, PROBLEM.dynamics, PROBLEM.covariance,
        ended=lambda state: state[..., 0] >= threshold, convex=False,
    )  # fmt: skip
    rewards = problem.expected_rewards(CONTROLLER)
    assert (rewards[last:] == 0.0).all() and (rewards[:last] != 0.0).all() and last > 0


def test_soft_limits_charge_for_what_is_beyond_them() -> None:
    action = torch.tensor([[0.5, 5.0], [3.0, 2.0], [-1.0, -6.0], [1.0, 6.0]], dtype=torch.float64)
    state = torch.zeros(4, 3, dtype=torch.float64)
    plain, limited = quadratic(state, action, state), with_soft_limits(quadratic, LIMITS, 3.0)(state, action, state)
    np.testing.assert_allclose((plain - limited).numpy(), [0.0, 1.5 * 2.0**2, 1.5 * 1.0**2, 0.0], atol=1e-12)
    for weight in (-1.0, np.nan):
        with pytest.raises(ValueError, match="weight of the action limits: got .* at least 0"):
            with_soft_limits(quadratic, LIMITS, weight)


def test_bad_input_is_named() -> None:
    states, actions = samples_of(PROBLEM, CONTROLLER, 2)
    local = PROBLEM.dynamics
    with pytest.raises(ValueError, match=r"states: got shape \(2, 6, 3\), expected \(2, 7, 3\)"):
        local_problem(quadratic, states[:, 1:], actions, local, PROBLEM.covariance)
    with pytest.raises(ValueError, match="actions: got shape"):
        local_problem(quadratic, states, actions[..., :1], local, PROBLEM.covariance)
    with pytest.raises(ValueError, match="actions: has non-finite"):
        local_problem(quadratic, states, actions * np.nan, local, PROBLEM.covariance)
    with pytest.raises(ValueError, match="reward: its .* are not finite at step 0 of trajectory 0"):
        local_problem(lambda s, a, y: torch.sqrt(0.0 * y[..., 0]), states, actions, local, PROBLEM.covariance)
    with pytest.raises(ValueError, match="initial covariance"):
        local_problem(quadratic, states, actions, local, -np.eye(3))
