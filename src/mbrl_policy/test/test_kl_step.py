# SPDX-License-Identifier: Apache-2.0
"""The KL-constrained step: against a grid of multipliers, a general optimiser and samples."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
from local_problems import assert_mean, random_controller, random_problem, samples_of

from mbrl_core.specs import Array
from mbrl_planner.lqr import QuadraticPenalty, RiccatiError
from mbrl_policy.kl_step import (
    KlStepConfig,
    KlStepError,
    Terms,
    adapted_epsilon,
    kl_constrained_step,
    log_density_penalty,
    maximum_entropy_controller,
)
from mbrl_policy.linear_gaussian import LinearGaussianController, kl_divergence
from mbrl_policy.local_problem import LocalProblem

CONFIG = KlStepConfig()


def scaled(penalty: QuadraticPenalty, factor: float) -> QuadraticPenalty:
    return QuadraticPenalty(*(factor * values for values in vars(penalty).values()))


def expected_penalty(problem: LocalProblem, controller: LinearGaussianController) -> float:
    return -float(problem.expected_rewards(controller).sum())


def divergence(problem: LocalProblem, controller: LinearGaussianController, other: LinearGaussianController) -> float:
    return float(kl_divergence(controller, other, problem.states(controller)).sum())


def on_grid(
    problem: LocalProblem, reference: LinearGaussianController, multipliers: Array
) -> list[LinearGaussianController | None]:
    """Minimisers of penalty + eta KL for each eta, from penalty - eta log pbar at temperature eta."""
    controllers: list[LinearGaussianController | None] = []
    for eta in multipliers:
        near = vars(log_density_penalty(reference, np.full(reference.horizon, eta))).values()
        both = [one + other for one, other in zip(vars(problem.penalty).values(), near, strict=True)]
        try:
            controllers.append(
                maximum_entropy_controller(problem, QuadraticPenalty(*both), np.full(reference.horizon, eta))
            )
        except RiccatiError:
            controllers.append(None)
    return controllers


@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 3.0, 100.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_divergence_meets_epsilon(seed: int, epsilon: float) -> None:
    problem, reference = random_problem(seed), random_controller(seed, 6, 3, 2)
    step = kl_constrained_step(problem, reference, epsilon, CONFIG)
    assert step.active and 0.95 * epsilon <= step.divergence <= epsilon
    assert step.divergence == pytest.approx(divergence(problem, step.controller, reference), rel=1e-9)
    assert expected_penalty(problem, step.controller) < expected_penalty(problem, reference)
    # The last multiplier is the best start for the next search.
    again = kl_constrained_step(problem, reference, epsilon, CONFIG, multiplier=step.multiplier)
    assert again.evaluations == 1 and step.evaluations <= 15
    np.testing.assert_array_equal(again.controller.gains, step.controller.gains)


@pytest.mark.parametrize("epsilon", [0.1, 2.0])
def test_the_divergence_is_that_of_samples(epsilon: float) -> None:
    problem, reference = random_problem(7), random_controller(7, 6, 3, 2)
    controller = kl_constrained_step(problem, reference, epsilon, CONFIG).controller
    states, actions = samples_of(problem, controller, 40_000)
    own, other = (one.log_density(states[:, :-1], actions).sum(axis=1) for one in (controller, reference))
    measured = own - other
    assert_mean(measured, divergence(problem, controller, reference))
    assert measured.mean() <= 1.1 * epsilon


@pytest.mark.parametrize("concave", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_dual_descent_finds_what_a_grid_search_finds(seed: int, concave: bool) -> None:
    """Also where the penalty is concave in the action and too small a multiplier has no minimiser at all."""
    epsilon, problem, reference = 1.5, random_problem(seed), random_controller(seed, 6, 3, 2)
    if concave:
        problem = replace(problem, penalty=scaled(problem.penalty, -1.0))
    step = kl_constrained_step(problem, reference, epsilon, replace(CONFIG, tolerance=1e-4))
    multipliers = np.geomspace(1e-3, 1e4, 701)
    feasible, dual = [], []
    for eta, controller in zip(multipliers, on_grid(problem, reference, multipliers), strict=True):
        if controller is None:
            dual.append(-np.inf)
            continue
        penalty, distance = expected_penalty(problem, controller), divergence(problem, controller, reference)
        dual.append(penalty + eta * (distance - epsilon))
        if distance <= epsilon:
            feasible.append(penalty)
    assert concave == np.isneginf(dual).any()
    reached = expected_penalty(problem, step.controller)
    gained = expected_penalty(problem, reference) - reached
    assert reached <= min(feasible) + 1e-3 * gained
    # The grid's best dual value bounds from below what any controller within epsilon can reach.
    assert reached == pytest.approx(max(dual), abs=1e-3 * gained)
    best = multipliers[int(np.argmax(dual))]
    assert step.multiplier == pytest.approx(best, rel=0.03)  # the grid's spacing


def test_no_controller_within_epsilon_is_better() -> None:
    """Against a general optimiser over gains, offsets and spreads, which knows neither multiplier nor Riccati."""
    epsilon, problem, reference = 0.7, random_problem(3, 3, 1, 1), random_controller(3, 3, 1, 1)
    step = kl_constrained_step(problem, reference, epsilon, replace(CONFIG, tolerance=1e-5))

    def controller_of(numbers: Array) -> LinearGaussianController:
        gains, offsets, spreads = numbers.reshape(3, 3)
        return LinearGaussianController(gains[:, None, None], offsets[:, None], np.exp(spreads)[:, None, None])

    start = np.concatenate([reference.gains.ravel(), reference.offsets.ravel(), np.log(reference.covariances.ravel())])
    found = scipy.optimize.minimize(
        lambda numbers: expected_penalty(problem, controller_of(numbers)), start, method="SLSQP",
        constraints={
            "type": "ineq", "fun": lambda numbers: epsilon - divergence(problem, controller_of(numbers), reference)
        },
        options={"maxiter": 300, "ftol": 1e-12},
    )  # fmt: skip
    assert found.success
    assert expected_penalty(problem, step.controller) == pytest.approx(float(found.fun), rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(step.controller.gains, controller_of(found.x).gains, atol=2e-2)


def test_the_maximum_entropy_controller_has_no_better_neighbour() -> None:
    problem, temperatures, random = random_problem(4), np.linspace(0.5, 2.0, 6), np.random.default_rng(0)

    def objective(controller: LinearGaussianController) -> float:
        return expected_penalty(problem, controller) - float(temperatures @ controller.entropy())

    best = maximum_entropy_controller(problem, problem.penalty, temperatures)
    for _ in range(20):
        change = 0.05 * random.normal(size=6)[:, None, None]
        grown = LinearGaussianController(best.gains, best.offsets, best.covariances * np.exp(change))
        moved = LinearGaussianController(best.gains + change, best.offsets - change[..., 0], best.covariances)
        assert objective(best) < min(objective(grown), objective(moved))


def test_a_constraint_that_holds_nothing_back_is_not_active() -> None:
    problem, reference = random_problem(5), random_controller(5, 6, 3, 2)
    indifferent = replace(problem, penalty=scaled(problem.penalty, 0.0))
    step = kl_constrained_step(indifferent, reference, 1.0, CONFIG)
    assert not step.active and step.divergence == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(step.controller.covariances, reference.covariances)
    # What entropy is worth keeps the best controller random: it is at a finite divergence from the reference.
    free = maximum_entropy_controller(problem, problem.penalty, np.full(6, 0.3))
    far = divergence(problem, free, reference)
    step = kl_constrained_step(problem, reference, 1.5 * far, replace(CONFIG, entropy_weight=0.3))
    assert not step.active and step.divergence == pytest.approx(far, rel=1e-4)
    np.testing.assert_allclose(step.controller.gains, free.gains, rtol=1e-4, atol=1e-6)
    held = kl_constrained_step(problem, reference, 0.5 * far, replace(CONFIG, entropy_weight=0.3))
    assert held.active and 0.475 * far <= held.divergence <= 0.5 * far


def test_terms_count_like_the_penalty() -> None:
    """A weight on the divergence from a third controller: no neighbour within epsilon is better."""
    problem, (reference, third) = random_problem(6), (random_controller(seed, 6, 3, 2) for seed in (6, 7))
    weights, epsilon = np.linspace(0.1, 2.0, 6), 1.0
    terms = Terms(log_density_penalty(third, weights), weights)
    best = kl_constrained_step(problem, reference, epsilon, replace(CONFIG, tolerance=1e-5), terms).controller

    def objective(one: LinearGaussianController) -> float:
        return expected_penalty(problem, one) + float(weights @ kl_divergence(one, third, problem.states(one)))

    random, tried = np.random.default_rng(0), 0
    for _ in range(400):
        change = 0.02 * random.normal(size=(3, 6))[..., None, None]
        other = LinearGaussianController(
            best.gains + change[0], best.offsets + change[1][..., 0], best.covariances * np.exp(change[2])
        )
        if divergence(problem, other, reference) <= epsilon:
            tried += 1
            assert objective(other) > objective(best) - 1e-6
    assert tried > 20


def test_epsilon_follows_what_steps_bring() -> None:
    # A return of slope 3 and curvature -0.5 in the divergence: the best step is 3.
    for taken in (1.0, 2.0, 6.0):
        predicted, actual = 3.0 * taken, 3.0 * taken - 0.5 * taken**2
        assert adapted_epsilon(taken, predicted, actual, 1e-3, 1e3) == pytest.approx(3.0)
    assert adapted_epsilon(1.0, 1.0, 1.0, 1e-3, 1e3) == 5.0  # as predicted: much more
    assert adapted_epsilon(1.0, 1.0, 2.0, 1e-3, 1e3) == 5.0
    assert adapted_epsilon(1.0, 1.0, -100.0, 1e-3, 1e3) == 0.1
    assert adapted_epsilon(1.0, 1.0, 1.0, 1e-3, 2.0) == 2.0 and adapted_epsilon(1.0, 1.0, -9.0, 0.5, 2.0) == 0.5
    assert adapted_epsilon(1.0, 0.0, 0.0, 1e-3, 1e3) == 1.0 and adapted_epsilon(1.0, -1.0, -2.0, 1e-3, 1e3) == 0.1


BROKEN: dict[str, tuple[Callable[[LocalProblem, LinearGaussianController], object], str]] = {
    **{
        f"epsilon {value}": (
            lambda problem, reference, value=value: kl_constrained_step(problem, reference, value, CONFIG),
            "epsilon: got .* above 0",
        )
        for value in (0.0, -1.0, np.nan, np.inf)
    },
    "deterministic reference": (
        lambda problem, reference: kl_constrained_step(
            problem, reference.execution("feedback", np.zeros((7, 3))), 1.0, CONFIG
        ),
        "singular at step 0",
    ),
    "another horizon": (
        lambda problem, reference: kl_constrained_step(problem, random_controller(0, 5, 3, 2), 1.0, CONFIG),
        "reference gains",
    ),
    "penalty": (
        lambda problem, reference: replace(problem, penalty=replace(problem.penalty, cross=np.zeros((6, 3, 2)))),
        "penalty cross",
    ),
    "penalty not finite": (
        lambda problem, reference: replace(problem, constant=np.full(6, np.inf)), "constant: has non-finite",
    ),
    "terms": (
        lambda problem, reference: kl_constrained_step(
            problem, reference, 1.0, CONFIG, Terms(problem.penalty, -np.ones(6))
        ),
        "entropy weights: got -1.0",
    ),
    "multiplier": (
        lambda problem, reference: kl_constrained_step(problem, reference, 1.0, CONFIG, multiplier=-1.0),
        "multiplier: got -1.0",
    ),
    "adaptation": (lambda problem, reference: adapted_epsilon(1.0, np.nan, 0.0, 0.1, 1.0), "finite"),
    "adaptation limits": (lambda problem, reference: adapted_epsilon(1.0, 0.0, 0.0, 2.0, 1.0), "least <= most"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_bad_input_is_named(case: str) -> None:
    work, text = BROKEN[case]
    with pytest.raises(ValueError, match=text):
        work(random_problem(0), random_controller(0, 6, 3, 2))


def test_a_search_without_an_end_says_so() -> None:
    problem = random_problem(0)
    concave = replace(problem, penalty=scaled(problem.penalty, -1e9))
    with pytest.raises(KlStepError, match="no multiplier up to 1000 keeps the divergence below epsilon = 1 nats"):
        kl_constrained_step(concave, random_controller(0, 6, 3, 2), 1.0, replace(CONFIG, most_multiplier=1e3))
