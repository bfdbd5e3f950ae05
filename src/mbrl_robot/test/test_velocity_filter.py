# SPDX-License-Identifier: Apache-2.0
"""Velocities from positions: exact where they have to be, and late and small as stated where they cannot be."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import SpecError
from mbrl_robot.state_estimation import JointStatesRefused, StateEstimator
from mbrl_robot.velocity_filter import Average, LineFit

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
NAMES = ["slider", "hinge"]
WINDOW = 0.04


def irregular(count: int, mean_ns: int = 1_000_000) -> list[int]:
    """Stamps (ns) that come as they like, from a time on that has few digits to spare."""
    random = np.random.default_rng(0)
    return [1_700_000_000_000_000_000 + int(stamp) for stamp in np.cumsum(random.uniform(0.2, 1.8, count) * mean_ns)]


def gain_and_delay(times: np.ndarray, values: np.ndarray, frequency: float) -> tuple[float, float]:
    """Of a sine that was cos(frequency t): least squares."""
    basis = np.stack([np.cos(frequency * times), np.sin(frequency * times)], axis=1)
    (cosine, sine), *_ = np.linalg.lstsq(basis, values, rcond=None)
    return math.hypot(cosine, sine), math.atan2(sine, cosine) / frequency


def test_a_ramp_has_its_slope_whatever_the_stamps() -> None:
    fit, stamps = LineFit(WINDOW, angular=False), irregular(500)
    slopes = [fit.add(stamp, 3.0 - 2.5 * (stamp - stamps[0]) * 1e-9) for stamp in stamps]
    assert slopes[0] == 0.0
    assert slopes[1:] == pytest.approx([-2.5] * 499, abs=1e-6)


def test_acceleration_delays_by_half_the_window() -> None:
    fit = LineFit(WINDOW, angular=False)
    for index in range(200):
        slope = fit.add(index * 1_000_000, 0.5 * 7.0 * (index * 1e-3) ** 2)
    assert slope == pytest.approx(7.0 * (0.199 - WINDOW / 2), abs=1e-9)


@pytest.mark.parametrize("frequency", [5.0, 30.0, 60.0])
def test_a_sine_has_the_stated_gain_and_delay(frequency: float) -> None:
    fit = LineFit(WINDOW, angular=False)
    times = np.arange(4000) * 1e-3
    slopes = np.array([fit.add(round(time * 1e9), math.sin(frequency * time) / frequency) for time in times])
    gain, delay = gain_and_delay(times[100:], slopes[100:], frequency)
    x = 0.5 * frequency * WINDOW
    assert gain == pytest.approx(3.0 * (math.sin(x) - x * math.cos(x)) / x**3, rel=0.02)
    assert delay == pytest.approx(WINDOW / 2, abs=1e-5)


def test_noise_is_as_small_as_stated() -> None:
    fit, random = LineFit(WINDOW, angular=False), np.random.default_rng(1)
    slopes = [fit.add(index * 1_000_000, random.normal(0.0, 1e-3)) for index in range(20_000)][100:]
    count = WINDOW * 1000 + 1
    assert np.std(slopes) == pytest.approx(math.sqrt(12.0 * 1e-6 / (count * WINDOW**2)), rel=0.1)


def test_angles_are_followed_through_their_turns() -> None:
    fit = LineFit(WINDOW, angular=True)
    slopes = [fit.add(i * 1_000_000, math.remainder(40.0 * i * 1e-3, 2.0 * math.pi)) for i in range(1000)]
    assert slopes[1:] == pytest.approx([40.0] * 999, abs=1e-6)


def test_too_few_in_the_window_a_repeated_stamp_and_a_pause() -> None:
    fit = LineFit(0.001, angular=False)
    assert [fit.add(index * 20_000_000, 0.02 * index) for index in range(4)] == pytest.approx([0.0, 1.0, 1.0, 1.0])
    assert fit.add(60_000_000, 0.08) == pytest.approx(2.0)
    assert fit.add(1_000_000_000, 5.0) == 0.0


def test_an_average_is_late_by_half_its_window_and_as_small_as_stated() -> None:
    average, stamps = Average(WINDOW), irregular(500)
    ramp = [average.add(stamp, 2.0 * (stamp - stamps[0]) * 1e-9) for stamp in stamps][-1]
    assert ramp == pytest.approx(2.0 * ((stamps[-1] - stamps[0]) * 1e-9 - WINDOW / 2), abs=1e-6)
    average, frequency, times = Average(WINDOW), 60.0, np.arange(4000) * 1e-3
    values = np.array([average.add(round(time * 1e9), math.cos(frequency * time)) for time in times])
    gain, delay = gain_and_delay(times[100:], values[100:], frequency)
    x = 0.5 * frequency * WINDOW
    assert (gain, delay) == pytest.approx((math.sin(x) / x, WINDOW / 2), rel=1e-3)


def robot(tmp_path: Path, **velocity: object) -> Robot:
    content = yaml.safe_load((ROBOTS / "cartpole.yaml").read_text())
    path = tmp_path / "cartpole.yaml"
    path.write_text(yaml.safe_dump({**content, "estimation": {"velocity": velocity}}))
    return load_robot(path)


@pytest.mark.parametrize("velocities", [[], [math.nan, math.nan]])
def test_a_backend_without_velocities_gets_them_from_its_positions(tmp_path: Path, velocities: list[float]) -> None:
    estimator = StateEstimator(robot(tmp_path))
    for index in range(30):
        turn = math.remainder(0.01 * index, 2.0)
        sample = estimator.update(NAMES, [0.002 * index, turn], velocities, index * 2_000_000, 0)
    assert sample is not None and sample.state[2:] == pytest.approx([1.0, 5.0])
    estimator.restart(0)
    sample = estimator.update(NAMES, [9.0, 0.0], velocities, 60_000_000, 0)
    assert sample is not None and sample.state[2:] == pytest.approx([0.0, 0.0]), "a reset is no movement"


def test_a_joint_that_had_a_velocity_is_refused_without(tmp_path: Path) -> None:
    estimator = StateEstimator(robot(tmp_path))
    # The drive of the hinge has no tachometer.
    for stamp in (0, 1_000_000):
        sample = estimator.update(NAMES, [0.0, 1e-9 * stamp], [3.0, math.nan], stamp, 0)
    assert sample is not None and sample.state[2:] == pytest.approx([3.0, 1.0])
    with pytest.raises(JointStatesRefused, match="expected finite numbers"):
        estimator.update(NAMES, [0.0, 0.0], [math.nan, math.nan], 2_000_000, 0)
    with pytest.raises(JointStatesRefused, match="0 velocities for 2 joints"):
        estimator.update(NAMES, [0.0, 0.0], [], 2_000_000, 0)
    with pytest.raises(JointStatesRefused, match="expected finite numbers"):
        estimator.update(NAMES, [0.0, math.nan], [1.0, 1.0], 2_000_000, 0)


def test_what_is_measured_may_be_passed_over_or_smoothed(tmp_path: Path) -> None:
    estimator = StateEstimator(robot(tmp_path, source="positions", window=0.01))
    for stamp in (0, 1_000_000):
        sample = estimator.update(NAMES, [2e-9 * stamp, 0.0], [-7.0, math.inf], stamp, 0)
    assert sample is not None and sample.state[2:] == pytest.approx([2.0, 0.0])
    estimator = StateEstimator(robot(tmp_path, smoothing=0.01))
    for index, velocity in enumerate([0.0, 2.0, 0.0]):
        sample = estimator.update(NAMES, [0.0, 0.0], [velocity, 1.0], index * 10_000_000, 0)
    assert sample is not None and sample.state[2:] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("key", "value"), [("source", "guess"), ("window", -0.1), ("smoothing", "long"), ("filter", 1)]
)
def test_sections_that_make_no_sense_are_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(SpecError, match=rf"estimation\.velocity.*{key}"):
        robot(tmp_path, **{key: value})
