# SPDX-License-Identifier: Apache-2.0
"""Coloured and filtered noise: variance one at every step, and the correlation that was asked for."""

import numpy as np
import pytest

from mbrl_planner.noise import coloured_noise, filtered_noise, noise_covariance

SAMPLES = 40_000


@pytest.mark.parametrize("horizon", [1, 2, 7, 24, 25])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.0, 4.0])
def test_coloured_noise_has_variance_one_at_every_step(exponent: float, horizon: int) -> None:
    noise = coloured_noise(np.random.default_rng(1), exponent, SAMPLES, horizon, 2)
    assert noise.shape == (SAMPLES, horizon, 2) and noise.dtype == np.float32
    np.testing.assert_allclose(noise.var(axis=0), 1.0, atol=0.05)
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.03)
    assert abs(np.corrcoef(noise[:, 0, 0], noise[:, 0, 1])[0, 1]) < 0.03


@pytest.mark.parametrize("horizon", [1, 2, 7, 24])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_covariance_is_that_of_the_draws(exponent: float, horizon: int) -> None:
    noise = coloured_noise(np.random.default_rng(1), exponent, SAMPLES, horizon, 1)[..., 0].astype(np.float64)
    expected = noise_covariance(exponent, horizon)
    np.testing.assert_allclose(np.diag(expected), 1.0, atol=1e-6)
    # Standard deviation of an entry of the sample covariance: at most sqrt(2 / samples); five of them.
    np.testing.assert_allclose(noise.T @ noise / SAMPLES, expected, atol=5.0 * np.sqrt(2.0 / SAMPLES))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_power_falls_with_the_exponent(exponent: float) -> None:
    noise = coloured_noise(np.random.default_rng(2), exponent, 2000, 128, 1)[..., 0]
    power = (np.abs(np.fft.rfft(noise, axis=1)) ** 2).mean(axis=0)
    frequency = np.fft.rfftfreq(128)
    inner = slice(1, -1)
    slope = np.polyfit(np.log(frequency[inner]), np.log(power[inner]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


@pytest.mark.parametrize("weight", [1.0, 0.6, 0.1])
def test_filtered_noise_is_stationary_with_variance_one(weight: float) -> None:
    noise = filtered_noise(np.random.default_rng(3), weight, SAMPLES, 20, 2)
    np.testing.assert_allclose(noise.var(axis=0), 1.0, atol=0.05)
    lag_one = (noise[:, 1:] * noise[:, :-1]).mean(axis=0)
    np.testing.assert_allclose(lag_one, 1.0 - weight, atol=0.04)
