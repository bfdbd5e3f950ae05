# SPDX-License-Identifier: Apache-2.0
"""Linear-Gaussian controllers: moments, divergences and densities against samples and against dense Gaussians."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from local_problems import assert_mean, random_controller, random_problem, samples_of

from mbrl_core.specs import Array
from mbrl_dynamics.local_linear import LocalDynamics
from mbrl_policy.linear_gaussian import LinearGaussianController, kl_divergence
from mbrl_policy.local_problem import LocalProblem

PROBLEM = random_problem(0)
FIRST, SECOND = random_controller(0, 6, 3, 2), random_controller(1, 6, 3, 2)
SAMPLES = 20_000


def joint_moments(problem: LocalProblem, controller: LinearGaussianController) -> tuple[Array, Array]:
    """Mean and covariance of the whole trajectory (x_0, u_0, ..., u_(H-1), x_H), from its map of independent noises."""
    local, (horizon, size, width) = problem.dynamics, problem.dynamics.control.shape
    blocks = [problem.covariance]
    total = size + horizon * (width + size)
    state_map, state_mean = np.eye(size, total), problem.mean
    maps, means, used = [state_map], [state_mean], size
    for step in range(horizon):
        blocks += [controller.covariances[step], local.covariance[step]]
        action_map = controller.gains[step] @ state_map + np.eye(width, total, used)
        action_mean = controller.gains[step] @ state_mean + controller.offsets[step]
        state_map = (
            local.matrix[step] @ state_map + local.control[step] @ action_map + np.eye(size, total, used + width)
        )
        state_mean = local.matrix[step] @ state_mean + local.control[step] @ action_mean + local.offset[step]
        maps, means, used = [*maps, action_map, state_map], [*means, action_mean, state_mean], used + width + size
    matrix = np.concatenate(maps)
    return np.concatenate(means), matrix @ scipy.linalg.block_diag(*blocks) @ matrix.T


def test_moments_are_those_of_samples() -> None:
    states, actions = samples_of(PROBLEM, FIRST, SAMPLES)
    moments = PROBLEM.states(FIRST)
    assert_mean(states, moments.state_mean)
    centred = states - moments.state_mean
    assert_mean(centred[..., :, None] * centred[..., None, :], moments.state_covariance)
    noise = actions - FIRST.means(states[:, :-1])
    assert_mean(noise[..., :, None] * noise[..., None, :], FIRST.covariances)


def test_divergence_and_entropy_are_those_of_samples() -> None:
    states, actions = samples_of(PROBLEM, FIRST, SAMPLES)
    first, second = (controller.log_density(states[:, :-1], actions) for controller in (FIRST, SECOND))
    divergence = kl_divergence(FIRST, SECOND, PROBLEM.states(FIRST))
    assert_mean(first - second, divergence)
    assert_mean((first - second).sum(axis=1), float(divergence.sum()))
    assert_mean(-first, FIRST.entropy())


def test_the_sum_of_divergences_is_that_of_whole_trajectories() -> None:
    (mean, covariance), (other_mean, other) = (joint_moments(PROBLEM, controller) for controller in (FIRST, SECOND))
    difference, inverse = other_mean - mean, np.linalg.inv(other)
    dense = 0.5 * (
        np.trace(inverse @ covariance) - len(mean) + difference @ inverse @ difference
        + np.linalg.slogdet(other)[1] - np.linalg.slogdet(covariance)[1]
    )  # fmt: skip
    assert kl_divergence(FIRST, SECOND, PROBLEM.states(FIRST)).sum() == pytest.approx(dense, rel=1e-9)
    np.testing.assert_allclose(kl_divergence(FIRST, FIRST, PROBLEM.states(FIRST)), 0.0, atol=1e-14)


def test_density_is_the_normal_one() -> None:
    states, actions = samples_of(PROBLEM, FIRST, 3)
    density = FIRST.log_density(states[:, :-1], actions)
    for rollout in range(3):
        for step in range(6):
            mean = FIRST.gains[step] @ states[rollout, step] + FIRST.offsets[step]
            expected = scipy.stats.multivariate_normal(mean, FIRST.covariances[step]).logpdf(actions[rollout, step])
            assert density[rollout, step] == pytest.approx(expected, rel=1e-10)


def test_the_same_seed_draws_the_same() -> None:
    once, again, other = (samples_of(PROBLEM, FIRST, 5, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    drawn = FIRST.noise(SAMPLES, np.random.default_rng(0))
    assert_mean(drawn[..., :, None] * drawn[..., None, :], FIRST.covariances)


def test_three_ways_of_execution() -> None:
    nominal, random = PROBLEM.states(FIRST).state_mean, np.random.default_rng(0)
    wanted, gains, corrections = random.normal(size=(6, 2)), FIRST.gains, random.normal(size=(6, 2))
    controller = LinearGaussianController.around(nominal, wanted, gains, FIRST.covariances, corrections)
    off = nominal[:-1] + random.normal(size=(6, 3))
    feedback = wanted + corrections + np.einsum("hij,hj->hi", gains, off - nominal[:-1])
    open_loop, quiet, noisy = (controller.execution(kind, nominal) for kind in ("open_loop", "feedback", "stochastic"))
    np.testing.assert_allclose(open_loop.means(off), wanted + corrections)
    np.testing.assert_allclose(quiet.means(off), feedback)
    np.testing.assert_allclose(noisy.means(off), feedback)
    for kind, spread in ((open_loop, 0.0), (quiet, 0.0), (noisy, controller.covariances)):
        drawn = np.stack([kind.sample(np.tile(off[step], (4000, 1)), step, random) for step in range(6)], axis=1)
        drawn = drawn - kind.means(off)
        assert_mean(drawn[..., :, None] * drawn[..., None, :], spread)
    with pytest.raises(ValueError, match="got 'closed', expected one of: open_loop, feedback, stochastic"):
        controller.execution("closed", nominal)
    with pytest.raises(ValueError, match="singular at step 0.*expected positive definite"):
        quiet.log_density(off, wanted)


BROKEN: dict[str, tuple[Callable[[], object], str]] = {
    "gains": (lambda: LinearGaussianController(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3, 3))), "gains"),
    "offsets": (lambda: LinearGaussianController(FIRST.gains, FIRST.offsets[1:], FIRST.covariances), "offsets"),
    "not a number": (
        lambda: LinearGaussianController(FIRST.gains * np.nan, FIRST.offsets, FIRST.covariances),
        "gains: has non-finite",
    ),
    "negative": (
        lambda: LinearGaussianController(FIRST.gains, FIRST.offsets, -FIRST.covariances),
        "expected symmetric and positive semi-definite.* smallest eigenvalue -",
    ),
    "not symmetric": (
        lambda: LinearGaussianController(FIRST.gains, FIRST.offsets, FIRST.covariances + np.eye(2, k=1)),
        "expected symmetric.* got asymmetry 1",
    ),
    "horizon": (
        lambda: PROBLEM.states(random_controller(0, 5, 3, 2)),
        r"controller gains: got shape \(5, 2, 3\), expected \(6, 2, 3\)",
    ),
    "initial mean": (
        lambda: dataclasses.replace(PROBLEM, mean=np.zeros(4)), "initial mean",
    ),
    "initial covariance": (
        lambda: dataclasses.replace(PROBLEM, covariance=-np.eye(3)), "initial covariance",
    ),
    "other sizes": (
        lambda: kl_divergence(FIRST, random_controller(0, 6, 4, 2), PROBLEM.states(FIRST)), "second controller",
    ),
    "dynamics": (
        lambda: LocalDynamics(
            PROBLEM.dynamics.matrix[1:], PROBLEM.dynamics.control, PROBLEM.dynamics.offset, PROBLEM.dynamics.covariance
        ),
        "local dynamics: matrix",
    ),
    "states of another trajectory": (
        lambda: LinearGaussianController.around(np.zeros((9, 3)), FIRST.offsets, FIRST.gains, FIRST.covariances),
        "states: got shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_bad_input_is_named(case: str) -> None:
    work, text = BROKEN[case]
    with pytest.raises(ValueError, match=text):
        work()
