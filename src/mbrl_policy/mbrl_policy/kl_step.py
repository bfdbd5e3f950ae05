# SPDX-License-Identifier: Apache-2.0
"""Trajectory optimisation under a limit on the divergence from a reference controller, by dual gradient descent.

    maximise E_p [sum_t r_t]   subject to   sum_t E KL(p(u_t | x_t) || pbar(u_t | x_t)) <= epsilon

(Levine and Abbeel 2014, "Learning neural network policies with guided policy search under unknown dynamics".) The
limit is on whole trajectories: under the same dynamics the sum is KL(p(tau) || pbar(tau)).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_dynamics.local_linear import check_array
from mbrl_planner.lqr import LinearDynamics, QuadraticPenalty, RiccatiError, finite_horizon
from mbrl_policy.linear_gaussian import LinearGaussianController, kl_divergence
from mbrl_policy.local_problem import LocalProblem, check_penalty

SMALLEST_CHANGE, LARGEST_CHANGE = 0.1, 5.0  # of epsilon from one step to the next
# In log eta, while one end is not known; the shortest doubles with every try.
SHORTEST_STRIDE, FIRST_STRIDE, LONGEST_STRIDE = 0.3, math.log(10.0), math.log(1000.0)
MOST_BELOW = -20.0  # of log divergence: beyond, false position would hardly move


class KlStepError(RuntimeError):
    """No multiplier keeps the divergence below epsilon. The text says what was tried."""


@dataclass(frozen=True)
class KlStepConfig:
    """Parameters of the search for the multiplier eta."""

    tolerance: float = parameter(
        0.05, "an active constraint is met from (1 - tolerance) epsilon to epsilon", minimum=1e-6, maximum=0.5
    )
    first_multiplier: float = parameter(
        1.0, "eta to start from where no earlier step left one", minimum=1e-12, maximum=1e12
    )
    least_multiplier: float = parameter(
        1e-8, "where eta may be as small as this, the constraint is not active", minimum=1e-12
    )
    most_multiplier: float = parameter(1e16, "eta at which the search gives up", minimum=1.0)
    evaluations: int = parameter(60, "backward passes that a search may take", minimum=5, maximum=1000)
    entropy_weight: float = parameter(
        0.0, "reward for each nat of the controller's entropy; 0 leaves the exploration to the constraint", minimum=0.0
    )


@dataclass(frozen=True)
class KlStep:
    """A step's result.

    Attributes:
        controller: p.
        multiplier: eta, a start for the next step's search.
        divergences: E KL(p || pbar) [H], in nats.
        active: whether the constraint holds p back; then the divergences' sum is (1 - tolerance) epsilon at least.
        evaluations: backward passes.
    """

    controller: LinearGaussianController
    multiplier: float
    divergences: Array
    active: bool
    evaluations: int

    @property
    def divergence(self) -> float:
        """KL(p(tau) || pbar(tau)), in nats."""
        return float(self.divergences.sum())


@dataclass(frozen=True)
class Terms:
    """What is added to a problem's penalty: a quadratic one, and weights [H] of minus the controller's entropy."""

    penalty: QuadraticPenalty
    entropy_weights: Array


def maximum_entropy_controller(
    problem: LocalProblem, penalty: QuadraticPenalty, temperatures: Array
) -> LinearGaussianController:
    """The controller that minimises sum_t E [l_t - temperature_t H(p(. | x_t))]: mean of LQR, Sigma_t =
    temperature_t Q_uu^-1 (Levine and Koltun 2013, "Guided policy search").

    `penalty` takes the place of the problem's own, temperatures [H] > 0. Raises RiccatiError where Q_uu is not
    positive definite.
    """
    local = problem.dynamics
    dynamics = LinearDynamics(local.matrix, local.control, local.offset)
    solution = finite_horizon(dynamics, penalty, len(temperatures))
    curvature = penalty.action + np.swapaxes(local.control, 1, 2) @ solution.value[1:] @ local.control
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(0.5 * (curvature + np.swapaxes(curvature, 1, 2))))
    except np.linalg.LinAlgError:  # beyond what the recursion's own rounding saw
        raise RiccatiError("Q_uu is not positive definite") from None
    covariances = temperatures[:, None, None] * (np.swapaxes(inverse, 1, 2) @ inverse)
    if not (np.isfinite(covariances).all() and np.isfinite(solution.gains).all()):
        raise RiccatiError("the backward pass has non-finite numbers")
    return LinearGaussianController(solution.gains, solution.offsets, covariances)


def log_density_penalty(controller: LinearGaussianController, weights: Array) -> QuadraticPenalty:
    """-weights_t log p(u_t | x_t), weights [H], less the part that depends on neither."""
    gains, offsets = controller.gains, controller.offsets[..., None]
    precision = weights[:, None, None] * controller.precisions
    turned = np.swapaxes(gains, 1, 2) @ precision
    return QuadraticPenalty(
        state=turned @ gains, cross=-precision @ gains, action=precision,
        state_linear=(turned @ offsets)[..., 0], action_linear=-(precision @ offsets)[..., 0],
    )  # fmt: skip


def combined(first: QuadraticPenalty, second: QuadraticPenalty, weight: float = 1.0) -> QuadraticPenalty:
    """`weight` first + second."""
    return QuadraticPenalty(
        *(weight * one + other for one, other in zip(vars(first).values(), vars(second).values(), strict=True))
    )


def kl_constrained_step(
    problem: LocalProblem,
    reference: LinearGaussianController,
    epsilon: float,
    config: KlStepConfig,
    terms: Terms | None = None,
    multiplier: float | None = None,
) -> KlStep:
    """The best controller within `epsilon` nats a trajectory of `reference` pbar.

    For a multiplier eta the Lagrangian E l + eta (KL - epsilon) is least for the maximum entropy controller of the
    surrogate penalty l / eta - log pbar, Sigma_t = Q_uu^-1 (with entropy weights w_t, of the configuration and of
    `terms`, (1 + w_t / eta) Q_uu^-1). Its divergence falls as eta grows, so the dual's maximum is where it meets
    epsilon: log eta is bracketed, then found by false position on the logarithm of the divergence. Where Q_uu is
    not positive definite eta is too small. `multiplier` is the last step's eta.

    Raises ValueError when epsilon is not positive and finite, on shapes that do not fit and on a reference with
    singular covariances, and KlStepError when no eta up to the largest will do.
    """
    if not (math.isfinite(epsilon) and epsilon > 0.0):
        raise ValueError(f"epsilon: got {epsilon}, expected a finite number above 0 (nats a trajectory)")
    horizon, states, actions = problem.dynamics.control.shape
    check_array("reference gains", reference.gains, (horizon, actions, states))
    penalty, weights = problem.penalty, np.full(horizon, config.entropy_weight)
    if terms is not None:
        check_penalty(terms.penalty, horizon, states, actions)
        check_array("entropy weights", terms.entropy_weights, (horizon,))
        if (terms.entropy_weights < 0.0).any():
            raise ValueError(f"entropy weights: got {terms.entropy_weights.min()}, expected at least 0")
        penalty, weights = combined(penalty, terms.penalty), weights + terms.entropy_weights
    stay = log_density_penalty(reference, np.ones(horizon))
    evaluations = 0

    def evaluate(eta: float) -> KlStep | None:
        """The Lagrangian's minimiser, None where it has none."""
        nonlocal evaluations
        evaluations += 1
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                surrogate = combined(penalty, stay, 1.0 / eta)
                controller = maximum_entropy_controller(problem, surrogate, 1.0 + weights / eta)
                divergences = kl_divergence(controller, reference, problem.states(controller))
        except (RiccatiError, ValueError):  # the second: eta so small that numbers overflow
            return None
        return KlStep(controller, eta, divergences, True, evaluations) if np.isfinite(divergences).all() else None

    return _meet(evaluate, epsilon, config, config.first_multiplier if multiplier is None else multiplier)


def adapted_epsilon(epsilon: float, predicted: float, actual: float, least: float, most: float) -> float:
    """The next step's epsilon, from what the last one was predicted to gain and what it gained, in units of return.

        epsilon' = epsilon / 2 * predicted / (predicted - actual)

    The return is taken to fall behind the prediction by the square of the divergence (Levine et al. 2016, "End-to-end
    training of deep visuomotor policies"). At most five times as much, at least a tenth, and within
    [least, most]. Where nothing was predicted to be gained, epsilon shrinks if the return fell, else it stays.

    Raises ValueError on numbers that are not finite and limits that are not 0 < least <= most.
    """
    if not all(math.isfinite(value) for value in (epsilon, predicted, actual, least, most)):
        raise ValueError(
            f"epsilon adaptation: got {(epsilon, predicted, actual, least, most)}, expected finite numbers"
        )
    if not (0.0 < least <= most and epsilon > 0.0):
        raise ValueError(f"epsilon {epsilon} in [{least}, {most}]: expected 0 < least <= most and epsilon above 0")
    lost = predicted - actual
    if predicted <= 0.0:
        factor = SMALLEST_CHANGE if actual < 0.0 else 1.0
    else:
        factor = LARGEST_CHANGE if 2.0 * LARGEST_CHANGE * lost <= predicted else 0.5 * predicted / lost
    return min(max(epsilon * max(factor, SMALLEST_CHANGE), least), most)


def _meet(evaluate: Callable[[float], KlStep | None], epsilon: float, config: KlStepConfig, first: float) -> KlStep:
    """The step of the eta whose divergence meets epsilon. Raises KlStepError and ValueError."""
    if not (math.isfinite(first) and first > 0.0):
        raise ValueError(f"multiplier: got {first}, expected a finite number above 0")
    least, most = math.log(config.least_multiplier), math.log(config.most_multiplier)
    target, position = math.log(epsilon * (1.0 - 0.5 * config.tolerance)), math.log(first)
    low: float | None = None  # log eta with too much divergence, and how much
    high: float | None = None  # log eta within epsilon
    above, below, best, high_moved = math.inf, -math.inf, None, False
    for tries in range(config.evaluations):
        position = min(max(position, least), most)
        step = evaluate(math.exp(position))
        excess = math.inf if step is None else math.log(max(step.divergence, 1e-300)) - target
        if step is not None and step.divergence <= epsilon:
            best = step
            if step.divergence >= (1.0 - config.tolerance) * epsilon:
                return step
            if position <= least:
                return replace(step, active=False)
            above *= 0.5 if high is not None and high_moved else 1.0  # Illinois: the other end must move, too
            high, below, high_moved = position, excess, True
        else:
            if position >= most:
                break
            below *= 0.5 if low is not None and not high_moved else 1.0
            low, above, high_moved = position, excess, False
        position = _next(low, above, high, below, tries)
    if best is None:
        raise KlStepError(
            f"no multiplier up to {config.most_multiplier:g} keeps the divergence below epsilon = {epsilon:g} nats"
            f" within {config.evaluations} backward passes; are penalty and reference of very different scale?"
        )
    return best


def _next(low: float | None, above: float, high: float | None, below: float, tries: int) -> float:
    """The log eta to try after those with `above` >= 0 too much and `below` <= 0 too little log divergence."""
    shortest = min(SHORTEST_STRIDE * 2.0**tries, LONGEST_STRIDE)
    if high is None:
        assert low is not None
        # Small steps diverge as 1 / eta^2, large ones less.
        return low + (FIRST_STRIDE if math.isinf(above) else min(max(0.6 * above, shortest), LONGEST_STRIDE))
    if low is None:
        return high - min(max(-0.6 * below, shortest), LONGEST_STRIDE)
    if math.isinf(above) or below < MOST_BELOW:
        return 0.5 * (low + high)
    share = above / (above - below)
    return low + min(max(share, 0.05), 0.95) * (high - low)
