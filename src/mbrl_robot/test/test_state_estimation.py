# SPDX-License-Identifier: Apache-2.0
"""What joint states become a state, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from mbrl_core.robot_file import load_robot
from mbrl_robot.state_estimation import JointStatesRefused, StateEstimator

ROBOT = load_robot(Path(__file__).parents[3] / "config" / "robots" / "cartpole.yaml")
NAMES = ["slider", "hinge"]


def test_order_is_made_here_and_other_joints_are_ignored() -> None:
    estimator = StateEstimator(ROBOT)
    sample = estimator.update(["wheel", "hinge", "slider"], [9.0, 2.0, 1.0], [8.0, 4.0, 3.0], 10, 20)
    assert sample is not None and sample is estimator.latest
    assert sample.state == pytest.approx([1.0, 2.0, 3.0, 4.0])
    sample = estimator.update(NAMES, [5.0, 6.0], [7.0, 8.0], 11, 21)
    assert sample is not None and sample.state == pytest.approx([5.0, 6.0, 7.0, 8.0])


@pytest.mark.parametrize(
    ("names", "positions", "velocities", "stamp", "reason", "text"),
    [
        (["slider"], [1.0], [1.0], 200, "missing_joint", "no joint 'hinge' among slider"),
        ([], [], [], 200, "missing_joint", "among none"),
        (["slider", "hinge", "hinge"], [1.0] * 3, [1.0] * 3, 200, "duplicate_joint", "'hinge' comes twice"),
        (NAMES, [1.0], [1.0, 2.0], 200, "wrong_length", "1 positions for 2 joints"),
        (NAMES, [1.0, 2.0], [], 200, "wrong_length", "0 velocities for 2 joints"),
        (NAMES, [1.0, np.nan], [1.0, 2.0], 200, "non_finite", "expected finite"),
        (NAMES, [1.0, 2.0], [np.inf, 2.0], 200, "non_finite", "expected finite"),
        (NAMES, [1.0, 2.0], [1.0, 2.0], 99, "time_backwards", "stamp 99 ns"),
    ],
)
def test_refusals(
    names: list[str], positions: list[float], velocities: list[float], stamp: int, reason: str, text: str
) -> None:
    estimator = StateEstimator(ROBOT)
    before = estimator.update(NAMES, [0.0, 0.0], [0.0, 0.0], 100, 0)
    with pytest.raises(JointStatesRefused, match=text) as refusal:
        estimator.update(names, positions, velocities, stamp, 1)
    assert refusal.value.reason == reason
    assert estimator.latest is before


def test_restart_waits_for_a_newer_state() -> None:
    estimator = StateEstimator(ROBOT)
    estimator.update(NAMES, [0.0, 0.0], [0.0, 0.0], 1000, 0)
    estimator.restart(500)
    assert estimator.update(NAMES, [0.0, 0.0], [0.0, 0.0], 499, 1) is None
    assert estimator.latest is None
    assert estimator.update(NAMES, [0.0, 0.0], [0.0, 0.0], 500, 2) is not None


def test_expected_arrival_is_a_median() -> None:
    estimator = StateEstimator(ROBOT)
    for index, delay in enumerate([5, 5, 90, 5, 6]):
        estimator.update(NAMES, [0.0, 0.0], [0.0, 0.0], index * 100, index * 100 + delay)
    assert estimator.expected_delay_ns == 5
    assert estimator.expected_interval_ns == 100
