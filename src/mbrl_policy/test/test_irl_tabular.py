# SPDX-License-Identifier: Apache-2.0
"""Tabular inverse reinforcement learning against what can be counted."""

import itertools
import math

import numpy as np
import pytest

from mbrl_policy.irl.max_entropy import (
    DeepConfig,
    MaxEntropyConfig,
    deep_max_entropy,
    feature_expectations,
    max_entropy,
)
from mbrl_policy.irl.tabular import (
    TabularProblem,
    expected_return,
    optimal_solution,
    soft_solution,
    uniform_policy,
    value_difference,
    visitation,
)
from mbrl_policy.irl.worlds import grid_problem, gridworld, objectworld


def ring(horizon: int = 4) -> TabularProblem:
    """Three states in a ring, one step either way, surely; begins in state 0."""
    successors = np.array([[[1], [2]], [[2], [0]], [[0], [1]]])
    return TabularProblem(successors, np.ones((3, 2, 1)), np.array([1.0, 0.0, 0.0]), horizon)


def paths(problem: TabularProblem, reward: np.ndarray) -> dict[tuple[int, ...], float]:
    """All action sequences and what they earn, where nothing is random."""
    result = {}
    for actions in itertools.product(range(problem.actions), repeat=problem.horizon):
        state, total = 0, 0.0
        for action in actions:
            total += reward[state]
            state = int(problem.successors[state, action, 0])
        result[actions] = total
    return result


def test_the_soft_policy_gives_each_path_the_probability_of_its_return() -> None:
    problem, reward = ring(), np.array([0.3, -1.0, 0.7])
    solution = soft_solution(problem, reward)
    earned = paths(problem, reward)
    partition = sum(math.exp(total) for total in earned.values())
    assert solution.start_value(problem) == pytest.approx(math.log(partition))
    for actions, total in earned.items():
        state, probability = 0, 1.0
        for step, action in enumerate(actions):
            probability *= solution.policy[step, state, action]
            state = int(problem.successors[state, action, 0])
        assert probability == pytest.approx(math.exp(total) / partition)


def test_the_forward_recursion_is_the_gradient_of_the_soft_value() -> None:
    world = gridworld(4, 6, seed=3)
    reward, problem = world.reward, world.problem
    visits = visitation(problem, soft_solution(problem, reward).policy)
    assert visits.sum(axis=1) == pytest.approx(np.ones(6))
    for state in (0, 5, 15):
        change = np.zeros(problem.states)
        change[state] = 1e-5
        above, below = (soft_solution(problem, reward + sign * change).start_value(problem) for sign in (1, -1))
        assert visits[:, state].sum() == pytest.approx((above - below) / 2e-5, abs=1e-7)


def test_visits_are_those_of_sampled_episodes() -> None:
    problem = grid_problem(3, 5)
    policy = np.random.default_rng(0).dirichlet(np.ones(5), size=(5, 9))
    random, counts, episodes = np.random.default_rng(1), np.zeros((5, 9)), 4000
    for _ in range(episodes):
        state = random.integers(9)
        for step in range(5):
            counts[step, state] += 1
            action = random.choice(5, p=policy[step, state])
            state = random.choice(problem.successors[state, action], p=problem.probabilities[state, action])
    assert np.abs(visitation(problem, policy) - counts / episodes).max() < 0.03  # 5 standard errors


def test_the_optimal_policy_is_no_worse_than_any_sequence() -> None:
    problem, reward = ring(5), np.array([0.0, 1.0, 0.2])
    solution = optimal_solution(problem, reward)
    best = max(paths(problem, reward).values())
    assert solution.start_value(problem) == pytest.approx(best)
    assert expected_return(problem, solution.policy, reward) == pytest.approx(best)
    assert value_difference(problem, reward, reward) == pytest.approx(0.0, abs=1e-12)
    # At the last step nothing that is done earns anything: both actions are as good.
    assert solution.policy[-1] == pytest.approx(np.full((3, 2), 0.5))


def test_weights_of_a_soft_expert_are_found_again() -> None:
    world = gridworld(4, 10, seed=1)
    expert = soft_solution(world.problem, world.reward).policy
    expected = feature_expectations(world.problem, expert, world.features)
    found = max_entropy(world.problem, world.features, expected, MaxEntropyConfig(tolerance=1e-8))
    assert found.mismatch < 1e-8
    # Features sum to one in every state: weights are known but for a constant.
    assert found.reward - found.reward[0] == pytest.approx(world.reward - world.reward[0], abs=1e-4)


def test_an_expert_that_never_errs_is_matched() -> None:
    world = gridworld(6, 12, seed=2)
    expert = optimal_solution(world.problem, world.reward).policy
    expected = feature_expectations(world.problem, expert, world.features)
    found = max_entropy(world.problem, world.features, expected, MaxEntropyConfig(tolerance=1e-3))
    soft = soft_solution(world.problem, found.reward).policy
    assert np.abs(feature_expectations(world.problem, soft, world.features) - expected).max() <= 1e-3
    assert value_difference(world.problem, world.reward, found.reward) < 0.01


def test_a_network_finds_what_no_linear_reward_can_say() -> None:
    world = objectworld(12, 16, seed=4)
    expert = visitation(world.problem, optimal_solution(world.problem, world.reward).policy).sum(axis=0)
    linear = max_entropy(world.problem, world.features, expert @ world.features, MaxEntropyConfig(iterations=300))
    deep, reward_of = deep_max_entropy(world.problem, world.features, expert, DeepConfig(iterations=200), seed=0)
    gap = value_difference(world.problem, world.reward, deep.reward)
    assert gap < 0.05
    assert value_difference(world.problem, world.reward, linear.reward) > 2.0 * gap
    assert reward_of(world.features) == pytest.approx(deep.reward)


def test_the_same_seed_gives_the_same_network() -> None:
    world = objectworld(8, 6, seed=0)
    expert = visitation(world.problem, optimal_solution(world.problem, world.reward).policy).sum(axis=0)
    runs = [
        deep_max_entropy(world.problem, world.features, expert, DeepConfig(iterations=5), seed)[0].reward
        for seed in (7, 7, 8)
    ]
    assert (runs[0] == runs[1]).all() and not (runs[0] == runs[2]).all()


def test_bad_input_is_refused_by_name() -> None:
    problem = ring()
    with pytest.raises(ValueError, match="probabilities: expected distributions"):
        TabularProblem(problem.successors, 0.5 * problem.probabilities, problem.start, 4)
    with pytest.raises(ValueError, match="states 0 to 2"):
        TabularProblem(problem.successors + 1, problem.probabilities, problem.start, 4)
    with pytest.raises(ValueError, match="expected integers"):
        TabularProblem(problem.successors.astype(float), problem.probabilities, problem.start, 4)
    with pytest.raises(ValueError, match="horizon"):
        TabularProblem(problem.successors, problem.probabilities, problem.start, 0)
    with pytest.raises(ValueError, match="reward: got shape"):
        soft_solution(problem, np.zeros(2))
    with pytest.raises(ValueError, match="reward"):
        soft_solution(problem, np.array([0.0, np.nan, 0.0]))
    with pytest.raises(ValueError, match="policy: got shape"):
        visitation(problem, uniform_policy(ring(3)))
    with pytest.raises(ValueError, match="expectations"):
        max_entropy(problem, np.eye(3), np.array([np.nan, 1.0, 1.0]))
    with pytest.raises(ValueError, match="features"):
        max_entropy(problem, np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match="visits"):
        deep_max_entropy(problem, np.eye(3), np.ones(2))
    with pytest.raises(ValueError, match="no better"):
        value_difference(problem, np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="objectworld"):
        objectworld(4, 3, seed=0, objects=3)
