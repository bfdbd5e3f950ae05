# SPDX-License-Identifier: Apache-2.0
"""The optimism gap on numbers that can be added up by hand."""

import math

import pytest

from mbrl_core.optimism import OptimismRecord


def record_of(rewards: dict[int, float], plans: list[tuple[int, int, float]]) -> OptimismRecord:
    record = OptimismRecord()
    for plan in plans:
        record.add_plan(*plan)
    for step, reward in rewards.items():
        record.add_reward(step, reward)
    return record


def test_gap_is_predicted_less_realised_over_the_plans_own_window() -> None:
    rewards = dict(enumerate([1.0, 2.0, 4.0, 8.0, 16.0]))
    record = record_of(rewards, [(0, 2, 5.0), (1, 3, 14.0), (2, 3, 20.0)])
    assert [(item.start_step, item.realised, item.gap) for item in record.outcomes] == [
        (0, 3.0, 2.0),
        (1, 14.0, 0.0),
        (2, 28.0, -8.0),
    ]
    assert record.mean_gap == pytest.approx(-2.0)


def test_a_plan_that_comes_after_its_window_counts_all_the_same() -> None:
    record = record_of({0: 1.0, 1: 2.0}, [])
    record.add_plan(0, 2, 4.0)
    assert [item.gap for item in record.outcomes] == [1.0]


def test_windows_beyond_the_time_limit_are_dropped() -> None:
    record = record_of({0: 1.0, 1: 2.0, 2: 3.0}, [(0, 3, 7.0), (1, 3, 7.0), (2, 3, 7.0)])
    record.finish(terminated=False)
    assert [item.gap for item in record.outcomes] == [1.0] and record.dropped == 2


def test_after_a_terminal_state_nothing_more_is_earned() -> None:
    record = record_of({0: 1.0, 1: 2.0}, [(0, 5, 4.0), (1, 5, 2.0)])
    record.finish(terminated=True)
    assert [item.gap for item in record.outcomes] == [1.0, 0.0] and record.dropped == 0


def test_windows_with_a_lost_step_are_dropped_and_later_ones_count() -> None:
    record = record_of({0: 1.0, 2: 3.0, 3: 4.0}, [(0, 1, 1.5), (0, 3, 9.0), (2, 2, 8.0)])
    assert [item.gap for item in record.outcomes] == [0.5, 1.0] and record.dropped == 1


def test_plans_that_predict_nothing_are_passed_over() -> None:
    record = record_of({0: 1.0}, [(0, 1, math.nan)])
    assert not record.outcomes and record.dropped == 0 and math.isnan(record.mean_gap)


def test_a_new_episode_forgets_the_windows_of_the_last_one_but_not_its_outcomes() -> None:
    record = record_of({0: 1.0, 1: 1.0}, [(0, 2, 3.0), (1, 2, 3.0)])
    record.start()
    assert record.dropped == 1 and not record.outcomes and record.mean_gap == 1.0
    record.add_reward(0, 5.0)
    record.add_plan(0, 1, 4.0)
    assert record.mean_gap == 0.0


def test_a_reward_that_comes_twice_counts_once() -> None:
    record = record_of({0: 1.0}, [(0, 2, 2.0)])
    record.add_reward(0, 7.0)
    record.add_reward(1, 1.0)
    assert [item.gap for item in record.outcomes] == [0.0]


def test_windows_that_two_tasks_share_are_dropped() -> None:
    record = record_of({0: 1.0}, [(0, 1, 1.5), (0, 3, 9.0)])
    record.interrupt()
    record.add_plan(0, 2, 3.0)
    record.add_plan(1, 1, 3.0)
    record.add_reward(1, 4.0)
    assert [item.gap for item in record.outcomes] == [0.5, -1.0] and record.dropped == 2
