# SPDX-License-Identifier: Apache-2.0
"""A simulator's time from stamps and arrivals alone."""

import pytest

from mbrl_robot.simulated_time import PATIENCE_NS, SimulatedTime

MS = 1_000_000
PERIOD = 40 * MS


def run(clock: SimulatedTime, factor: float, steps: int, stamp: int = 0, arrival: int = 0) -> tuple[int, int]:
    """Stamps 2 ms apart; returns the last stamp and arrival."""
    for _ in range(steps):
        stamp += 2 * MS
        arrival += round(2 * MS / factor)
        assert not clock.update(stamp, arrival)
    return stamp, arrival


@pytest.mark.parametrize("factor", [0.3, 0.8, 1.0, 2.0, 3.0])
def test_real_time_factor(factor: float) -> None:
    clock = SimulatedTime(PERIOD)
    assert clock.factor == 1.0
    _, arrival = run(clock, factor, 1000)
    assert clock.factor == pytest.approx(factor, rel=1e-6)
    # A quarter of a period of steady time later.
    assert clock.now_ns(arrival + 10 * MS) - (clock.stamp_ns or 0) == pytest.approx(10 * MS * factor, rel=1e-3)
    assert clock.now_ns(arrival + 10_000 * MS) - (clock.stamp_ns or 0) == PERIOD


def test_a_pause_changes_no_factor() -> None:
    clock = SimulatedTime(PERIOD)
    stamp, arrival = run(clock, 0.5, 500)
    for _ in range(100):
        arrival += 2 * MS
        assert not clock.update(stamp, arrival), "a simulator that is paused may repeat its stamp"
    assert clock.standing_ns(arrival) == 200 * MS
    clock.resumed(arrival)
    run(clock, 0.5, 200, stamp, arrival)
    assert clock.factor == pytest.approx(0.5, rel=0.02)


def test_a_stamp_that_was_overtaken_is_no_new_beginning() -> None:
    clock = SimulatedTime(PERIOD)
    stamp, arrival = run(clock, 1.0, 100)
    assert not clock.update(stamp - PERIOD + MS, arrival)
    assert clock.stamp_ns == stamp and clock.beginnings == 0
    assert clock.update(stamp - PERIOD, arrival)
    assert clock.stamp_ns == stamp - PERIOD and clock.beginnings == 1


def test_an_expected_beginning_may_be_a_short_way_back() -> None:
    clock = SimulatedTime(PERIOD)
    stamp, arrival = run(clock, 1.0, 5)
    clock.expect_restart(arrival)
    assert not clock.update(stamp + 2 * MS, arrival + 2 * MS) and clock.awaits_restart(arrival + 2 * MS)
    assert clock.update(2 * MS, arrival + 4 * MS) and not clock.awaits_restart(arrival + 4 * MS)
    assert not clock.update(4 * MS, arrival + 6 * MS)


def test_a_beginning_is_not_expected_for_ever() -> None:
    clock = SimulatedTime(PERIOD)
    stamp, arrival = run(clock, 1.0, 5)
    clock.expect_restart(arrival)
    assert not clock.awaits_restart(arrival + PATIENCE_NS)
    assert not clock.update(stamp - 2 * MS, arrival + PATIENCE_NS + MS) and clock.beginnings == 0
