# SPDX-License-Identifier: Apache-2.0
"""Random exploration: limits, reproducibility, overlap of consecutive plans."""

import dataclasses
import math

import numpy as np
import pytest

from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec
from mbrl_policy.exploration import ExplorationConfig, RandomExploration

ACTION = ActionSpec(
    names=("left", "right"), interfaces=("effort", "effort"), units=("N", "N"), lower=(-3.0, 1.0), upper=(3.0, 2.0),
    scale=(100.0, 1.0), slew=(math.inf, math.inf),
)  # fmt: skip

# `left` may go from -1 to 3 m, `right` anywhere.
STATE = StateSpec(
    names=("left_position", "right_position", "left_velocity", "right_velocity"), kinds=("linear",) * 4,
    units=("m", "m", "m/s", "m/s"), lower=(-1.0, -math.inf, -math.inf, -math.inf),
    upper=(3.0, math.inf, math.inf, math.inf),
)  # fmt: skip
SPEC = RobotSpec("pair", 0.05, STATE, ACTION)
CENTRE = np.array([1.0, 0.0, 0.0, 0.0])


def sequence(exploration: RandomExploration, episode: int, steps: int) -> np.ndarray:
    return np.stack([exploration.actions(episode, step, CENTRE)[0] for step in range(steps)])


def test_actions_fill_the_range_and_stay_within_it() -> None:
    actions = sequence(RandomExploration(ExplorationConfig(seed=3, hold=1), SPEC), 1, 2000)
    assert (actions >= ACTION.lower).all() and (actions <= ACTION.upper).all()
    # Mean of 2000 uniform numbers of range r: standard deviation r / sqrt(12 * 2000); five of them.
    tolerance = 5.0 * np.array([6.0, 1.0]) / math.sqrt(12.0 * 2000.0)
    assert (np.abs(actions.mean(axis=0) - [0.0, 1.5]) < tolerance).all()
    assert np.abs(np.corrcoef(actions[:-1, 0], actions[1:, 0])[0, 1]) < 5.0 / math.sqrt(2000.0)


def test_scale_narrows_around_the_middle() -> None:
    actions = sequence(RandomExploration(ExplorationConfig(scale=0.1), SPEC), 1, 200)
    assert (np.abs(actions - [0.0, 1.5]).max(axis=0) <= np.array([0.3, 0.05]) + 1e-12).all()


def test_overlapping_plans_agree_and_streams_differ() -> None:
    exploration = RandomExploration(ExplorationConfig(seed=1, rows=5), SPEC)
    np.testing.assert_array_equal(exploration.actions(2, 10, CENTRE)[3], exploration.actions(2, 13, CENTRE)[0])
    assert not np.array_equal(exploration.actions(2, 10, CENTRE), exploration.actions(3, 10, CENTRE))
    other_seed = RandomExploration(ExplorationConfig(seed=2, rows=5), SPEC)
    assert not np.array_equal(exploration.actions(2, 10, CENTRE), other_seed.actions(2, 10, CENTRE))


def test_hold_repeats_actions() -> None:
    actions = sequence(RandomExploration(ExplorationConfig(hold=4), SPEC), 1, 12)
    for start in (0, 4, 8):
        assert (actions[start : start + 4] == actions[start]).all()
    assert len(np.unique(actions[:, 0])) == 3


def test_joints_are_not_driven_out_of_the_middle_of_their_range() -> None:
    exploration = RandomExploration(ExplorationConfig(seed=3, middle=0.5), SPEC)
    free = sequence(exploration, 1, 200)
    assert free[:, 0].min() < -2.0 and free[:, 0].max() > 2.0
    for place, allowed in ((1.9, 0), (2.1, -1), (-0.1, 1), (2.9, -1)):
        state = np.array([place, 100.0, 0.0, 0.0])
        actions = np.stack([exploration.actions(1, step, state)[0] for step in range(200)])
        np.testing.assert_array_equal(actions[:, 1], free[:, 1])
        np.testing.assert_array_equal(np.abs(actions[:, 0]), np.abs(free[:, 0]))
        if allowed:
            assert (actions[:, 0] * allowed >= 0.0).all()
        else:
            np.testing.assert_array_equal(actions, free)


def test_a_negative_scale_turns_outward_round_and_position_commands_are_left_alone() -> None:
    far = np.array([2.9, 0.0, 0.0, 0.0])
    cases = (({"scale": (-100.0, 1.0)}, (0.0, 3.0)), ({"interfaces": ("position", "effort")}, (-3.0, 3.0)))
    for change, expected in cases:
        spec = dataclasses.replace(SPEC, action=dataclasses.replace(ACTION, **change))
        exploration = RandomExploration(ExplorationConfig(seed=3), spec)
        left = np.array([exploration.actions(1, step, far)[0, 0] for step in range(400)])
        assert left.min() == pytest.approx(expected[0], abs=0.2) and left.max() == pytest.approx(expected[1], abs=0.2)
