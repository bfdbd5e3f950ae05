# SPDX-License-Identifier: Apache-2.0
"""The estimator of a delay on systems whose delay is known: integrated finely, sampled, with noise."""

import numpy as np
import pytest

from mbrl_robot.delay_estimation import NoDelayFound, Recording, estimate_delay

PERIOD = 0.02
FINE = PERIOD / 200


def commands(random: np.random.Generator, periods: int) -> np.ndarray:
    """Levels that change at random."""
    values: list[float] = []
    while len(values) < periods:
        values += [float(random.choice([-1.0, 0.0, 1.0]))] * int(random.integers(1, 4))
    return np.array(values[:periods])


def recorded(
    delay: float,
    *,
    rate: float = 0.3,
    gain: float = 8.0,
    noise: float = 0.0,
    interval: float = PERIOD,
    phase: float = 0.3,
    periods: int = 500,
    seed: int = 0,
    servo: bool = False,
) -> Recording:
    """v' = gain u(t - delay) - rate v, or with `servo` v' = rate (u - v); sampled every `interval` from `phase` of it
    on.
    """
    random = np.random.default_rng(seed)
    sent = commands(random, periods)
    times = np.arange(periods) * PERIOD + random.uniform(0.0, 0.001, periods)
    grid = np.arange(0.0, (periods - 1) * PERIOD, FINE)
    acting = np.searchsorted(times, grid + 0.5 * FINE - delay, side="right") - 1
    driven = np.where(acting >= 0, sent[np.maximum(acting, 0)], 0.0)
    if servo:
        gain = rate
    velocity = np.zeros(len(grid))
    kept = np.exp(-rate * FINE)
    for index in range(1, len(grid)):
        velocity[index] = kept * velocity[index - 1] + gain * (1.0 - kept) / rate * driven[index - 1]
    position = np.cumsum(velocity) * FINE
    at = np.arange(phase * interval, grid[-1], interval)
    velocities = np.interp(at, grid, velocity) + noise * random.normal(size=len(at))
    positions = np.interp(at, grid, position)
    return Recording(
        at, positions[:, None], velocities[:, None], np.array([False]), times, sent[:, None]
    )  # fmt: skip


@pytest.mark.parametrize("periods", [0.3, 1.0, 1.5, 2.45, 3.7])
def test_delay_of_any_fraction_of_a_period(periods: float) -> None:
    found = estimate_delay(recorded(periods * PERIOD), 0, 0, longest=0.2)
    assert found.delay == pytest.approx(periods * PERIOD, abs=0.0004)
    assert found.lower <= found.delay <= found.upper
    assert found.explained > 0.9


@pytest.mark.parametrize("interval", [0.002, 0.008])
def test_samples_need_not_come_at_the_control_rate(interval: float) -> None:
    found = estimate_delay(recorded(0.031, interval=interval), 0, 0, longest=0.2)
    assert found.delay == pytest.approx(0.031, abs=0.0004)


@pytest.mark.parametrize("rate", [5.0, 25.0])
def test_a_velocity_drive_is_no_later_than_it_is(rate: float) -> None:
    """Its time constant is no delay."""
    found = estimate_delay(recorded(0.027, rate=rate, servo=True), 0, 0, longest=0.2)
    assert found.delay == pytest.approx(0.027, abs=0.001)
    assert found.rate == pytest.approx(rate, rel=0.2)


def test_noise_widens_the_interval_which_holds_the_delay() -> None:
    clean = estimate_delay(recorded(0.033), 0, 0, longest=0.2)
    found = [estimate_delay(recorded(0.033, noise=0.03, seed=seed), 0, 0, longest=0.2) for seed in range(4)]
    assert all(item.upper - item.lower > clean.upper - clean.lower for item in found)
    assert sum(item.lower <= 0.033 <= item.upper for item in found) >= 3
    assert all(item.delay == pytest.approx(0.033, abs=0.002) for item in found)


def test_nothing_is_said_where_nothing_can_be() -> None:
    with pytest.raises(NoDelayFound, match="no response"):
        estimate_delay(recorded(0.03, gain=1e-6, noise=0.1), 0, 0, longest=0.2)
    with pytest.raises(NoDelayFound, match="too noisy|no response"):
        estimate_delay(recorded(0.03, noise=0.6), 0, 0, longest=0.2)
    with pytest.raises(NoDelayFound, match="end of what was searched"):
        estimate_delay(recorded(0.09), 0, 0, longest=0.06)
    with pytest.raises(NoDelayFound, match="samples"):
        estimate_delay(recorded(0.03, periods=50), 0, 0, longest=0.2)
    still = recorded(0.03)
    still.commands[:] = 1.0
    with pytest.raises(NoDelayFound, match="changed 0 times"):
        estimate_delay(still, 0, 0, longest=0.2)
