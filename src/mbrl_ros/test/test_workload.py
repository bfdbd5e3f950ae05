# SPDX-License-Identifier: Apache-2.0
"""Figures of a node's work: rate, compute time and jitter, each of its own."""

import math

import pytest

from mbrl_ros.workload import SILENCE, Workload, quantile


class SteppedClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rate_compute_time_and_jitter_are_told_apart() -> None:
    clock = SteppedClock()
    work = Workload("tick", 0.1, clock)
    for index in range(11):
        # Every one takes 2 ms; the last comes 30 ms late, and nothing else does.
        clock.now = 100.0 + 0.1 * index + (0.03 if index == 10 else 0.0)
        with work.piece():
            clock.now += 0.002
    figures = work.figures()
    assert figures["tick_count"] == 11
    assert figures["tick_rate"] == pytest.approx(10 / 1.03)
    assert figures["tick_compute_ms_p50"] == figures["tick_compute_ms_p99"] == pytest.approx(2.0)
    assert figures["tick_jitter_ms_p50"] == pytest.approx(0.0, abs=1e-6)
    assert figures["tick_jitter_ms_p99"] == pytest.approx(30.0)


def test_without_a_period_the_usual_interval_is_the_regular_one() -> None:
    clock = SteppedClock()
    work = Workload("plan", clock=clock)
    for begin in (0.0, 0.5, 1.0, 1.5, 2.1):
        work.add(begin, 0.0)
    assert work.figures()["plan_jitter_ms_p99"] == pytest.approx(100.0)


def test_nothing_yet_silence_and_a_pause() -> None:
    clock = SteppedClock()
    work = Workload("plan", 0.1, clock)
    figures = work.figures()
    assert figures["plan_rate"] == 0.0 and math.isnan(figures["plan_jitter_ms_p99"])
    for index in range(5):
        work.add(100.0 + 0.1 * index, 0.001)
    clock.now = 100.5
    assert work.figures()["plan_rate"] == pytest.approx(10.0)
    clock.now += SILENCE
    assert work.figures()["plan_rate"] == 0.0
    work.restart()
    work.add(200.0, 0.001)
    assert math.isnan(work.figures()["plan_jitter_ms_p99"]), "the pause is nobody's jitter"
    assert work.figures()["plan_count"] == 6


def test_quantiles_are_values_that_there_were() -> None:
    assert math.isnan(quantile([], 0.5))
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(value) for value in range(100)], 0.99) == 99.0
