# SPDX-License-Identifier: Apache-2.0
"""When a policy acts in a planner's place: discrepancy, distance, hysteresis."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mbrl_core.config import ConfigurationError
from mbrl_core.policies import make_policy
from mbrl_core.robot_file import load_robot
from mbrl_policy.agreement import AgreementConfig, AgreementMonitor, action_difference, training_distance

SPEC = load_robot(Path(__file__).resolve().parents[3] / "config" / "robots" / "cartpole.yaml").spec
CONFIG = AgreementConfig(planner="planner", window=4, take_over=0.4, hand_back=0.2, largest_distance=5.0)


def monitor_that_acts() -> AgreementMonitor:
    monitor = AgreementMonitor(CONFIG)
    for _ in range(CONFIG.window):
        assert not monitor.acts
        monitor.visit(1.0)
        monitor.compare(0.1)
    assert monitor.acts
    return monitor


def test_without_a_planner_to_agree_with_it_always_acts() -> None:
    monitor = AgreementMonitor(AgreementConfig())
    monitor.visit(1e9)
    monitor.compare(1.0)
    monitor.start()
    assert monitor.acts and monitor.take_overs == 0


def test_it_acts_after_a_window_of_agreement_and_another_policy_starts_anew() -> None:
    monitor = monitor_that_acts()
    monitor.start()
    assert not monitor.acts and math.isnan(monitor.difference)


def test_one_difference_is_noise_and_several_are_not() -> None:
    monitor = monitor_that_acts()
    monitor.compare(1.0)  # mean 0.325
    assert monitor.acts
    monitor.compare(1.0)
    assert not monitor.acts and monitor.take_overs == 1 and "differ by 0.55" in monitor.reason


def test_what_lies_between_the_two_thresholds_changes_nothing() -> None:
    monitor = monitor_that_acts()
    for _ in range(20):
        monitor.compare(0.3)
    assert monitor.acts
    for _ in range(4):
        monitor.compare(0.9)
    for _ in range(20):
        monitor.compare(0.3)
        assert not monitor.acts
    for _ in range(4):
        monitor.compare(0.1)
    assert monitor.acts and monitor.take_overs == 1


def test_a_state_far_from_training_stops_it_at_once_and_for_a_window() -> None:
    monitor = monitor_that_acts()
    monitor.visit(5.1)
    assert not monitor.acts and not monitor.knows_state and "5.1 standard deviations" in monitor.reason
    for _ in range(CONFIG.window - 1):
        monitor.visit(1.0)
        monitor.compare(0.0)
        assert not monitor.acts
    monitor.visit(1.0)
    monitor.compare(0.0)
    assert monitor.acts


def test_thresholds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'agreement.hand_back': got 0.5, expected at most"):
        AgreementMonitor(AgreementConfig(planner="planner", take_over=0.3, hand_back=0.5))


def test_differences_count_within_the_limits() -> None:
    lower, upper = np.array([-1.0, 0.0]), np.array([1.0, 4.0])
    assert action_difference(np.array([9.0, 1.0]), np.array([1.0, 3.0]), lower, upper) == pytest.approx(0.25)


def test_distance_is_that_of_the_furthest_variable_from_the_states_it_was_normalised_by() -> None:
    policy = make_policy("mlp", {}, SPEC, 0)
    states = np.random.default_rng(0).normal([1.0, 0.0, -2.0, 0.0], [0.5, 1.0, 2.0, 0.1], (100_000, 4))
    policy.normalise(torch.from_numpy(states).float())
    assert training_distance(policy.fast(), np.array([1.0, 3.0, -2.0, 0.7])) == pytest.approx(7.0, rel=0.02)
    assert training_distance(policy.fast(), np.array([-3.0, 0.0, -2.0, 0.0])) == pytest.approx(8.0, rel=0.02)
    tracking = make_policy("time_varying_linear", {}, SPEC, 0)
    assert training_distance(tracking.fast(), np.full(4, 1e6)) == 0.0
