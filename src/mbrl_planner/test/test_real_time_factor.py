# SPDX-License-Identifier: Apache-2.0
"""Deadline and delay of a planner go by how fast control periods really pass."""

import numpy as np
import pytest

from mbrl_planner.real_time_factor import RealTimeFactor

PERIOD = 0.04


def after(steps: list[int], factor: float, jitter: float = 0.0, episode: int = 1) -> RealTimeFactor:
    """Of time steps with these numbers; `jitter` is the standard deviation of the sample times, seconds."""
    random = np.random.default_rng(0)
    measured = RealTimeFactor(PERIOD)
    for step in steps:
        measured.add(episode, step, round((step * PERIOD / factor + random.normal(0.0, jitter)) * 1e9) + 10**12)
    return measured


@pytest.mark.parametrize("factor", [0.3, 0.5, 2.0, 3.0])
def test_measured_with_jitter_and_missed_steps(factor: float) -> None:
    steps = [step for step in range(40) if step % 7]
    assert after(steps, factor, 0.001).value == pytest.approx(factor, rel=0.1)


def test_real_time_with_jitter_is_real_time() -> None:
    assert after(list(range(40)), 1.0, 0.002).value == 1.0
    assert after(list(range(40)), 1.05).value == 1.0


def test_unknown_is_real_time() -> None:
    assert RealTimeFactor(PERIOD).value == 1.0
    assert after([0, 1, 2, 3], 0.5).value == 1.0


def test_what_lies_between_episodes_does_not_count() -> None:
    measured = after(list(range(30)), 0.5)
    measured.add(2, 0, 10**13)
    measured.add(2, 1, 10**13 + 10**9)
    assert measured.value == pytest.approx(0.5)


def test_a_clock_that_goes_back_is_left_out() -> None:
    measured = after(list(range(30)), 0.5)
    measured.add(1, 30, 5)
    assert measured.value == pytest.approx(0.5)
