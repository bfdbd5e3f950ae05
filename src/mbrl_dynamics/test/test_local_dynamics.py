# SPDX-License-Identifier: Apache-2.0
"""Local dynamics: exact recovery, charts of angles, moments against samples, and what is refused."""

import numpy as np
import pytest

from mbrl_dynamics.local_fit import fit_local_dynamics, rollout_transitions
from mbrl_dynamics.local_linear import Chart, LocalDynamics, offsets_about

STATES, ACTIONS, HORIZON = 3, 2, 6


def linear_system(seed: int, noise: float = 0.1) -> LocalDynamics:
    random = np.random.default_rng(seed)
    roots = noise * random.normal(size=(HORIZON, STATES, STATES))
    return LocalDynamics(
        np.eye(STATES) + 0.3 * random.normal(size=(HORIZON, STATES, STATES)),
        random.normal(size=(HORIZON, STATES, ACTIONS)),
        random.normal(size=(HORIZON, STATES)),
        roots @ roots.swapaxes(1, 2),
    )


def controller(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    roots = random.normal(size=(HORIZON, ACTIONS, ACTIONS))
    gains = 0.3 * random.normal(size=(HORIZON, ACTIONS, STATES))
    return gains, random.normal(size=(HORIZON, ACTIONS)), roots @ roots.swapaxes(1, 2)


def rollouts(system: LocalDynamics, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return system.simulate(random.normal(size=(count, STATES)), *controller(seed), random)


def assert_close(found: LocalDynamics, expected: LocalDynamics, tolerance: float) -> None:
    for name in ("matrix", "control", "offset", "covariance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=tolerance, err_msg=name)


@pytest.mark.parametrize("count", [STATES + ACTIONS + 1, 20])
def test_linear_dynamics_without_noise_are_found_exactly(count: int) -> None:
    system = linear_system(0, noise=0.0)
    assert_close(fit_local_dynamics(*rollouts(system, count, 1), regularisation=0.0), system, 1e-8)


def test_the_default_ridge_hardly_shows() -> None:
    system = linear_system(0, noise=0.0)
    assert_close(fit_local_dynamics(*rollouts(system, 20, 1)), system, 0.02)


def test_linear_dynamics_with_noise_are_found_within_their_errors() -> None:
    system, count = linear_system(1), 20_000
    states, actions = rollouts(system, count, 2)
    found = fit_local_dynamics(states, actions)
    inputs = np.concatenate([states[:, :-1], actions, np.ones((count, HORIZON, 1))], axis=-1).swapaxes(0, 1)
    precision = np.linalg.inv(inputs.swapaxes(1, 2) @ inputs)
    variance = np.einsum("hii->hi", system.covariance)
    deviation = np.sqrt(variance[:, :, None] * np.einsum("hjj->hj", precision)[:, None, :])
    slopes, true = (
        np.concatenate([one.matrix, one.control, one.offset[..., None]], axis=-1) for one in (found, system)
    )
    assert (np.abs(slopes - true) < 5.0 * deviation).all()
    unit = np.sqrt(variance[:, :, None] * variance[:, None, :])
    assert np.abs((found.covariance - system.covariance) / unit).max() < 5.0 * np.sqrt(2.0 / count)


def test_covariances_are_unbiased_with_few_rollouts() -> None:
    system, count = linear_system(1), STATES + ACTIONS + 4
    fits = [fit_local_dynamics(*rollouts(system, count, seed), regularisation=0.0) for seed in range(400)]
    mean = np.mean([fit.covariance for fit in fits], axis=0)
    # Of a variance with 3 degrees of freedom the relative deviation is sqrt(2/3); 5 standard errors of 400.
    scale = np.sqrt(np.einsum("hi,hj->hij", *[np.einsum("hii->hi", system.covariance)] * 2))
    assert np.abs((mean - system.covariance) / scale).max() < 5.0 * np.sqrt(2.0 / 3.0 / 400.0)


def test_directions_nobody_went_into_change_nothing() -> None:
    system = linear_system(0, noise=0.0)
    random = np.random.default_rng(3)
    start = np.repeat(random.normal(size=(1, STATES)), 30, axis=0)
    fitted = fit_local_dynamics(*system.simulate(start, *controller(1), random))
    np.testing.assert_allclose(fitted.matrix[0], np.eye(STATES), atol=1e-9)
    np.testing.assert_allclose(fitted.control[0], system.control[0], atol=1e-3)


def test_moments_are_those_of_samples() -> None:
    system, (gains, offsets, covariances) = linear_system(2), controller(4)
    random = np.random.default_rng(5)
    mean, root = random.normal(size=STATES), random.normal(size=(STATES, STATES))
    count = 200_000
    starts = mean + random.normal(size=(count, STATES)) @ root.T
    states, actions = system.simulate(starts, gains, offsets, covariances, random)
    moments = system.moments(mean, root @ root.T, gains, offsets, covariances)
    joint = np.concatenate([states[:, :-1], actions], axis=-1)
    for values, expected_mean, expected_covariance in (
        (states, moments.state_mean, moments.state_covariance),
        (joint, moments.joint_mean, moments.joint_covariance),
    ):
        deviation = np.sqrt(np.einsum("hii->hi", expected_covariance))
        assert (np.abs(values.mean(axis=0) - expected_mean) < 5.0 * deviation / np.sqrt(count)).all()
        centred = values - values.mean(axis=0)
        found = np.einsum("rhi,rhj->hij", centred, centred, optimize=True) / count
        error = (found - expected_covariance) / (deviation[:, :, None] * deviation[:, None, :])
        assert np.abs(error).max() < 5.0 * np.sqrt(2.0 / count)


def test_a_controller_about_a_trajectory_keeps_to_it() -> None:
    system = linear_system(3, noise=0.0)
    gains, actions, _ = controller(6)
    states = system.rollout(np.ones(STATES), actions[None])[0]
    nothing = np.zeros((HORIZON, ACTIONS, ACTIONS))
    moments = system.moments(
        states[0], np.zeros((STATES, STATES)), gains, offsets_about(states, actions, gains), nothing
    )
    np.testing.assert_allclose(moments.state_mean, states, atol=1e-9)
    np.testing.assert_allclose(moments.joint_mean[:, STATES:], actions, atol=1e-9)
    np.testing.assert_allclose(moments.state_covariance, 0.0, atol=1e-12)


def spinning(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rollouts [count, 31, 2] of an angle that turns more than once, and its speed: linear but for the turns."""
    random = np.random.default_rng(seed)
    states, actions = np.empty((count, 31, 2)), random.normal(size=(count, 30, 1))
    states[:, 0] = [3.0, 4.0] + random.normal(size=(count, 2)) * [0.3, 0.2]
    for step in range(30):
        angle, speed = states[:, step].T
        states[:, step + 1, 1] = 0.98 * speed + 0.1 * actions[:, step, 0]
        states[:, step + 1, 0] = angle + 0.1 * states[:, step + 1, 1]
    return states, actions


def test_where_angles_are_cut_makes_no_difference() -> None:
    states, actions = spinning(10, 7)
    angular = np.array([True, False])
    plain = fit_local_dynamics(states, actions)
    random = np.random.default_rng(8)
    cut = states.copy()
    cut[..., 0] += 2.0 * np.pi * random.integers(-2, 3, states.shape[:2])
    cut[0, 0, 0] = states[0, 0, 0]  # the turn that the first rollout begins in is the model's
    fitted = fit_local_dynamics(cut, actions, angular)
    assert_close(fitted, plain, 1e-9)
    assert fitted.chart is not None and fitted.chart.reference[-1, 0] > 3.0 * np.pi
    np.testing.assert_allclose(fitted.chart.unwrapped(cut), states, atol=1e-9)
    for step in (0, 29):
        predicted = fitted.predict(cut[:, step], actions[:, step], step)
        np.testing.assert_allclose(predicted, states[:, step + 1], atol=1e-3)
    np.testing.assert_allclose(fitted.rollout(cut[:, 0], actions), states, atol=1e-2)


def test_an_earlier_chart_is_kept() -> None:
    states, actions = spinning(10, 9)
    angular = np.array([True, False])
    earlier = Chart.around(states, angular)
    later = states - [2.0 * np.pi, 0.0]
    fitted = fit_local_dynamics(later, actions, angular, chart=earlier)
    assert fitted.chart is earlier
    assert_close(fitted, fit_local_dynamics(states, actions), 1e-9)
    with pytest.raises(ValueError, match=r"chart: got reference \(31, 2\) .*expected \(21, 2\)"):
        fit_local_dynamics(later[:, :21], actions[:, :20], angular, chart=earlier)


def test_transitions_of_rollouts() -> None:
    states, actions = rollouts(linear_system(0), 4, 0)
    data = rollout_transitions(states, actions)
    assert len(data) == 4 * HORIZON
    np.testing.assert_array_equal(data.next_state[: HORIZON - 1], data.state[1:HORIZON])
    np.testing.assert_array_equal(data.action[data.episode == 3], actions[2])
    np.testing.assert_array_equal(data.step[data.episode == 3], np.arange(HORIZON))


def test_rollouts_that_cannot_be_fitted_are_refused() -> None:
    states, actions = rollouts(linear_system(0), 8, 0)
    for arguments, expected in (
        ((states[:5], actions[:5]), "got 5 rollouts, expected at least 6 to regress on 3 states, 2 actions"),
        ((states[0], actions), r"got states \(7, 3\) and actions \(8, 6, 2\), expected \[rollouts"),
        ((states[:, :-1], actions), "actions of 8 rollouts and 6 steps, expected 8 and 5"),
        ((states[:7], actions), "actions of 8 rollouts and 6 steps, expected 7 and 6"),
        ((states, actions, np.array([True])), r"angular: got \[True\], expected 3 times"),
        ((states, actions, np.zeros(3)), r"angular: got \[0.0, 0.0, 0.0\], expected 3 times true or false"),
        ((states, actions, None, None, -1.0), "regularisation: got -1.0, expected a finite number of at least 0"),
        ((states, actions, None, None, np.nan), "regularisation: got nan"),
    ):
        with pytest.raises(ValueError, match=expected):
            fit_local_dynamics(*arguments)
    for which in (0, 1):
        broken = [states.copy(), actions.copy()]
        broken[which][4, 2, 1] = np.inf
        with pytest.raises(ValueError, match=f"{('states', 'actions')[which]} of rollout 4 at step 2 .* non-finite"):
            fit_local_dynamics(*broken)
    system, (gains, offsets, _) = linear_system(0), controller(1)
    start = np.random.default_rng(0).normal(size=(8, STATES))
    quiet = system.simulate(start, gains, offsets, np.zeros((HORIZON, ACTIONS, ACTIONS)), np.random.default_rng(0))
    with pytest.raises(
        ValueError, match="at step 0 the rollouts differ in 3 directions of states and actions, expected 5"
    ):
        fit_local_dynamics(*quiet, regularisation=0.0)
    fit_local_dynamics(*quiet)


def test_what_is_no_local_dynamics_is_refused() -> None:
    system = linear_system(0)
    parts = {name: getattr(system, name) for name in ("matrix", "control", "offset", "covariance")}
    for name, values, expected in (
        ("matrix", system.matrix[:-1], r"matrix: got shape \(5, 3, 3\), expected \(6, 3, 3\)"),
        ("control", system.control[0], r"control: got shape \(3, 2\), expected \[H, n, m\]"),
        ("offset", system.offset * np.nan, "offset: has non-finite numbers"),
        ("covariance", -system.covariance, "covariance: .* at step 0 got asymmetry 0 and smallest eigenvalue -"),
        ("covariance", system.covariance + np.triu(np.ones((3, 3))), "covariance: .* got asymmetry 1"),
    ):
        with pytest.raises(ValueError, match=expected):
            LocalDynamics(**{**parts, name: values})
    gains, offsets, covariances = controller(0)
    with pytest.raises(ValueError, match=r"controller gains: got shape \(5, 2, 3\), expected \(6, 2, 3\)"):
        system.moments(np.zeros(3), np.eye(3), gains[1:], offsets, covariances)
    with pytest.raises(ValueError, match="controller covariances: .* smallest eigenvalue"):
        system.moments(np.zeros(3), np.eye(3), gains, offsets, -covariances)
