# SPDX-License-Identifier: Apache-2.0
"""What a measurement of the delay sends, and what it makes of several joints."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.robot_file import load_robot
from mbrl_robot.delay_estimation import DelayEstimate
from mbrl_robot.delay_probe import Excitation, JointDelay, overall_delay

REACHER = load_robot(Path(__file__).parents[3] / "config" / "robots" / "reacher.yaml")


def test_one_joint_at_a_time_there_and_back() -> None:
    excitation = Excitation(REACHER, [0, 1], 0.2, 8.0)
    assert (excitation.turns, excitation.steps, excitation.part(1)) == (2, 800, (400, 800))
    rows = np.concatenate([excitation.rows(step, 4, np.zeros(4)) for step in range(0, 800, 4)])
    assert (rows[:400, 1] == 0.0).all() and (rows[400:, 0] == 0.0).all()
    assert set(np.unique(rows[:400, 0])) == {-0.2, 0.0, 0.2}
    assert np.count_nonzero(np.diff(rows[:400, 0])) > 100
    # Speed and place of a body that it pushes stay near those of the beginning, though pushed for seconds.
    speed = np.cumsum(rows[:400, 0])
    assert np.abs(speed).max() <= 3 * 0.2 + 1e-9 and np.abs(np.cumsum(speed)).max() <= 12 * 0.2 * 3
    # Beyond its end there is nothing, and a plan may reach beyond a turn.
    assert (excitation.rows(800, 4, np.zeros(4)) == 0.0).all()
    assert np.array_equal(excitation.rows(398, 4, np.zeros(4)), rows[398:402])


def test_a_position_is_moved_about_where_it_is_and_within_its_limits() -> None:
    action = dataclasses.replace(
        REACHER.spec.action, interfaces=("position", "position"), scale=(2.0, 2.0), units=("rad", "rad")
    )
    robot = dataclasses.replace(REACHER, spec=dataclasses.replace(REACHER.spec, action=action))
    rows = Excitation(robot, [1], 0.1, 4.0).rows(0, 200, np.array([0.5, -1.9, 0.0, 0.0]))
    assert (rows[:, 0] == 0.25).all()
    assert rows[:, 1].min() == -1.0 and rows[:, 1].max() == pytest.approx(-0.85)


def found(joint: str, delay: float, half: float) -> JointDelay:
    return JointDelay(joint, DelayEstimate(delay, delay - half, delay + half, 0.9, 0.0))


def test_overall_weighs_joints_by_what_is_known_of_them() -> None:
    overall = overall_delay([found("a", 0.020, 0.001), found("b", 0.026, 0.01), JointDelay("c", None, "no response")])
    assert overall is not None and overall.agree
    assert 0.020 < overall.delay < 0.0202 and overall.lower < 0.020 < overall.upper
    apart = overall_delay([found("a", 0.020, 0.0005), found("b", 0.030, 0.0005)])
    assert apart is not None and not apart.agree
    assert overall_delay([JointDelay("c", None, "no response")]) is None
