# SPDX-License-Identifier: Apache-2.0
"""Couplings: their terms by definition, and guided policy search where all its steps are exact."""

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.optimize
import torch
from local_problems import assert_mean, random_controller, random_problem, samples_of

from mbrl_core.config import ConfigurationError
from mbrl_core.specs import Array
from mbrl_dynamics.local_linear import LocalDynamics
from mbrl_planner.lqr import QuadraticPenalty
from mbrl_policy.couplings import COUPLINGS, Coupling, make_coupling
from mbrl_policy.kl_step import KlStepConfig, kl_constrained_step
from mbrl_policy.linear_gaussian import LinearGaussianController, kl_divergence
from mbrl_policy.linearise import linearise_policy
from mbrl_policy.local_problem import LocalProblem
from mbrl_policy.supervised import best_covariance

KINDS = COUPLINGS.names()
HALF_RANGE = np.array([2.0, 0.5])


def in_use(kind: str) -> tuple[Coupling, LocalProblem, LinearGaussianController, LinearGaussianController]:
    """A coupling with multipliers, its problem, a controller and a policy."""
    problem, controller, policy = random_problem(0), random_controller(0, 6, 3, 2), random_controller(1, 6, 3, 2)
    coupling = make_coupling({"kind": kind}, 6, HALF_RANGE)
    for seed in range(3):
        states, _ = samples_of(problem, controller, 10, seed)
        coupling.update(controller, policy, states[:, :-1], policy.means(states[:, :-1]))
    return coupling, problem, controller, policy


@pytest.mark.parametrize("kind", ["badmm", "augmented_lagrangian"])
def test_what_is_added_to_the_penalty_is_the_papers_term(kind: str) -> None:
    """Differences between two controllers' expected terms, quadratics against samples of the definition."""
    coupling, problem, previous, policy = in_use(kind)
    terms = coupling.trajectory_terms(previous, policy)
    assert terms.added is not None and terms.reference is previous
    added = LocalProblem(problem.dynamics, terms.added.penalty, np.zeros(6), problem.mean, problem.covariance)
    exact, measured = [], []
    for seed in (5, 6):
        controller = random_controller(seed, 6, 3, 2)
        exact.append(-added.expected_rewards(controller) - terms.added.entropy_weights * controller.entropy())
        states, actions = samples_of(problem, controller, 40_000)
        if kind == "badmm":
            distance = kl_divergence(controller, policy, problem.states(controller))
            value = coupling.weights * distance - (actions * coupling.multipliers).sum(axis=-1)
        else:
            error = (policy.means(states[:, :-1]) - actions) / HALF_RANGE
            value = (error * coupling.multipliers).sum(axis=-1) + coupling.weights * (error**2).sum(axis=-1)
        measured.append(value)
    assert np.abs(coupling.multipliers).min() > 0.0
    assert_mean(measured[0] - measured[1], exact[0] - exact[1])


@pytest.mark.parametrize("kind", ["badmm", "augmented_lagrangian"])
def test_targets_are_where_the_papers_supervised_objective_is_least(kind: str) -> None:
    coupling, problem, controller, _ = in_use(kind)
    states = samples_of(problem, controller, 2)[0][:, :-1]
    targets, own = coupling.targets(controller, states), controller.means(states)
    answers = torch.tensor(own, requires_grad=True)
    difference = answers - torch.from_numpy(own)
    multipliers, weights = torch.from_numpy(coupling.multipliers), torch.from_numpy(coupling.weights)
    if kind == "badmm":  # E_pi u'lambda + nu KL(pi || p)
        distance = torch.einsum("rhi,hij,rhj->rh", difference, torch.from_numpy(controller.precisions), difference)
        loss = (answers * multipliers).sum(dim=-1) + 0.5 * weights * distance
    else:
        error = difference / torch.from_numpy(HALF_RANGE)
        loss = (error * multipliers).sum(dim=-1) + weights * error.square().sum(dim=-1)
    slope = torch.autograd.grad(loss.sum(), answers)[0].numpy()
    # The same slope as 1/2 nu (u - target)' C^-1 (u - target) has.
    pull = np.einsum("hij,rhj->rhi", targets.precisions, own - targets.means) * targets.weights[:, None]
    np.testing.assert_allclose(pull, slope, rtol=1e-9, atol=1e-12)


def test_mirror_descent_keeps_to_the_policy() -> None:
    coupling, problem, controller, policy = in_use("mirror_descent")
    terms = coupling.trajectory_terms(controller, policy)
    assert terms.reference is policy and terms.added is None
    states = samples_of(problem, controller, 2)[0][:, :-1]
    targets = coupling.targets(controller, states)
    np.testing.assert_array_equal(targets.means, controller.means(states))
    np.testing.assert_allclose(
        targets.precisions @ controller.covariances, np.broadcast_to(np.eye(2), (6, 2, 2)), atol=1e-9
    )


def test_weights_of_badmm_follow_the_divergence_of_each_step() -> None:
    horizon = 20
    same = LinearGaussianController(np.zeros((horizon, 1, 1)), np.zeros((horizon, 1)), np.ones((horizon, 1, 1)))
    coupling = make_coupling({"kind": "badmm", "first_weight": 0.5}, horizon, np.ones(1))
    states, answers = np.zeros((3, horizon, 1)), np.ones((3, horizon, 1))
    answers[:, 4], answers[:, 9] = 1.5, 0.0  # one step worse than the others, one better
    coupling.update(same, same, states, answers)
    expected = np.full(horizon, 0.5)
    expected[4], expected[9] = 1.0, 0.25
    np.testing.assert_allclose(coupling.weights, expected)
    np.testing.assert_allclose(coupling.multipliers[:, 0], 0.1 * 0.5 * answers[0, :, 0])
    coupling.update(same, same, states, np.ones((3, horizon, 1)))
    np.testing.assert_allclose(coupling.weights, expected)  # all alike: no step is worse than the others


@dataclass(frozen=True)
class LinearPolicy:
    """u ~ N(W (x, 1), Sigma): one for all steps and start conditions."""

    matrix: Array
    covariance: Array

    def means(self, states: Array) -> Array:
        return states @ self.matrix[:, :-1].T + self.matrix[:, -1]

    def controller(self, horizon: int) -> LinearGaussianController:
        actions, both = self.matrix.shape
        return LinearGaussianController(
            np.broadcast_to(self.matrix[:, :-1], (horizon, actions, both - 1)).copy(),
            np.broadcast_to(self.matrix[:, -1], (horizon, actions)).copy(),
            np.broadcast_to(self.covariance, (horizon, actions, actions)).copy(),
        )


def regulator(mean: Array, horizon: int = 15) -> LocalProblem:
    """A double integrator that is to come to rest at zero."""
    dynamics = LocalDynamics(
        np.tile(np.array([[1.0, 0.2], [0.0, 1.0]]), (horizon, 1, 1)), np.tile([[0.02], [0.2]], (horizon, 1, 1)),
        np.zeros((horizon, 2)), np.tile(1e-4 * np.eye(2), (horizon, 1, 1)),
    )  # fmt: skip
    penalty = QuadraticPenalty(
        np.tile(np.diag([1.0, 0.1]), (horizon, 1, 1)), np.zeros((horizon, 1, 2)),
        np.tile(0.05 * np.eye(1), (horizon, 1, 1)), np.zeros((horizon, 2)), np.zeros((horizon, 1)),
    )  # fmt: skip
    return LocalProblem(dynamics, penalty, np.zeros(horizon), mean, 0.01 * np.eye(2))


def policy_return(policy: LinearPolicy, problems: list[LocalProblem]) -> float:
    """Of its mean actions."""
    silent = LinearPolicy(policy.matrix, np.zeros((1, 1)))
    return sum(float(problem.expected_rewards(silent.controller(15)).sum()) for problem in problems)


def guided(kind: str, problems: list[LocalProblem], policy: LinearPolicy, iterations: int, epsilon: float):
    """Policies of the iterations, and how far controllers and policy are from each other in mean action."""
    couplings = [make_coupling({"kind": kind}, 15, np.ones(1)) for _ in problems]
    controllers = [policy.controller(15) for _ in problems]
    policies, disagreements = [policy], []
    for iteration in range(iterations):
        inputs, means, precisions, weights, rollouts = [], [], [], [], []
        for index, (problem, coupling) in enumerate(zip(problems, couplings, strict=True)):
            states = samples_of(problem, controllers[index], 20, seed=iteration)[0][:, :-1]
            near = linearise_policy(states, policy.means(states), policy.covariance)
            terms = coupling.trajectory_terms(controllers[index], near)
            step = kl_constrained_step(problem, terms.reference, epsilon, KlStepConfig(), terms.added)
            assert step.divergence <= epsilon
            controllers[index] = step.controller
            targets = coupling.targets(step.controller, states)
            inputs.append(np.concatenate([states, np.ones((*states.shape[:-1], 1))], axis=-1).reshape(-1, 3))
            means.append(targets.means.reshape(-1))
            precisions.append(np.tile(targets.precisions[:, 0, 0], 20))
            weights.append(np.tile(targets.weights, 20))
            rollouts.append(states)
        x, y, c, w = (np.concatenate(parts) for parts in (inputs, means, precisions, weights))
        matrix = np.linalg.solve((x * (w * c)[:, None]).T @ x, x.T @ (w * c * y))[None]
        covariance = best_covariance(torch.from_numpy(c)[:, None, None], torch.from_numpy(w)).numpy()
        policy = LinearPolicy(matrix, covariance)
        policies.append(policy)
        difference = []
        for controller, coupling, states in zip(controllers, couplings, rollouts, strict=True):
            near = linearise_policy(states, policy.means(states), policy.covariance)
            coupling.update(controller, near, states, policy.means(states))
            difference.append((policy.means(states) - controller.means(states)).mean(axis=0))
        disagreements.append(float(np.sqrt(np.mean(np.square(difference)))))
    return policies, disagreements


@pytest.mark.parametrize(("kind", "least"), [("mirror_descent", 0.99), ("badmm", 0.99), ("augmented_lagrangian", 0.95)])
def test_guided_policy_search_finds_the_best_linear_policy(kind: str, least: float) -> None:
    """Exact dynamics, a policy that is the same at all steps and from two starts, 20 rollouts each an iteration.

    The augmented Lagrangian settles a little short: it has them agree in the mean action of each step, not in feedback.
    """
    problems = [regulator(np.array(mean)) for mean in ([1.0, 0.0], [-0.5, 1.0])]
    start = LinearPolicy(np.zeros((1, 3)), np.eye(1))
    best = scipy.optimize.minimize(
        lambda row: -policy_return(LinearPolicy(row[None], np.zeros((1, 1))), problems), np.zeros(3)
    )
    policies, disagreements = guided(kind, problems, start, 20, 5.0)
    first, last = policy_return(start, problems), policy_return(policies[-1], problems)
    assert (last - first) / (-best.fun - first) >= least
    assert disagreements[-1] < 0.01 < 0.3 < disagreements[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_coupling_goes_on_from_its_arrays(kind: str) -> None:
    coupling, problem, controller, policy = in_use(kind)
    twin = make_coupling({"kind": kind}, 6, HALF_RANGE)
    twin.load_arrays(coupling.state_arrays())
    states = samples_of(problem, controller, 5, 9)[0][:, :-1]
    for one in (coupling, twin):
        one.update(controller, policy, states, policy.means(states))
    for name, values in coupling.state_arrays().items():
        np.testing.assert_array_equal(values, twin.state_arrays()[name])
    with pytest.raises(ValueError, match=f"coupling {kind!r}: got arrays .'others'., expected"):
        twin.load_arrays({"others": np.zeros(1)})
    short = {name: values[1:] for name, values in coupling.state_arrays().items()}
    if short:
        with pytest.raises(ValueError, match=r"multipliers: got shape \(5, 2\), expected \(6, 2\)"):
            twin.load_arrays(short)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_named(kind: str) -> None:
    coupling, problem, controller, policy = in_use(kind)
    before = coupling.state_arrays()
    states = samples_of(problem, controller, 5)[0][:, :-1]
    for bad, text in ((states[:, 1:], "states: got shape"), (states * np.nan, "states: has non-finite")):
        with pytest.raises(ValueError, match=text):
            coupling.update(controller, policy, bad, policy.means(states))
    with pytest.raises(ValueError, match="policy means: got shape"):
        coupling.update(controller, policy, states, policy.means(states)[..., :1])
    for name, values in before.items():
        np.testing.assert_array_equal(coupling.state_arrays()[name], values)
    with pytest.raises(ValueError, match=r"half_range \[1.0, 0.0\], expected numbers above 0"):
        make_coupling({"kind": kind}, 6, np.array([1.0, 0.0]))
    with pytest.raises(ConfigurationError, match="unknown"):
        make_coupling({"kind": kind, "speed": 1.0}, 6, HALF_RANGE)


def test_configurations_are_checked() -> None:
    with pytest.raises(
        ConfigurationError, match="unknown coupling 'admm', expected one of: augmented_lagrangian, badmm"
    ):
        make_coupling({"kind": "admm"}, 6, HALF_RANGE)
    for kind in ("badmm", "augmented_lagrangian"):
        with pytest.raises(ValueError, match="parameter 'first_weight': got 1000.0"):
            make_coupling({"kind": kind, "first_weight": 1000.0}, 6, HALF_RANGE)
