# SPDX-License-Identifier: Apache-2.0
"""Random exploration: limits, reproducibility, overlap of consecutive plans."""

import dataclasses
import math

import numpy as np
import pytest

from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec
from mbrl_policy.exploration import STRETCH, ExplorationConfig, RandomExploration

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
    actions = sequence(RandomExploration(ExplorationConfig(seed=3, noise_exponent=0.0), SPEC), 1, 2048)
    assert (actions.min(axis=0) == ACTION.lower).all() and (actions.max(axis=0) == ACTION.upper).all()
    # Mean of 2048 numbers that differ by less than half the range r from its middle: five standard deviations.
    tolerance = 5.0 * np.array([3.0, 0.5]) / math.sqrt(2048.0)
    assert (np.abs(actions.mean(axis=0) - [0.0, 1.5]) < tolerance).all()
    assert np.abs(np.corrcoef(actions[:-1, 0], actions[1:, 0])[0, 1]) < 5.0 / math.sqrt(2048.0)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_every_stretch_has_the_same_spread_and_its_colour(exponent: float) -> None:
    config = ExplorationConfig(seed=3, noise_exponent=exponent, std=0.1)
    exploration = RandomExploration(config, SPEC)
    powers = []
    for episode in range(40):
        actions = sequence(exploration, episode, STRETCH)
        np.testing.assert_allclose(actions.std(axis=0), 0.1 * np.array([3.0, 0.5]), rtol=1e-3)
        powers.append(np.abs(np.fft.rfft(actions[:, 0] - actions[:, 0].mean())) ** 2)
    power = np.mean(powers, axis=0)
    # Three octaves: mean power of eight neighbours at frequencies 8 and 64 of the stretch.
    slope = np.log2(power[4:12].mean() / power[60:68].mean()) / 3.0
    assert slope == pytest.approx(exponent, abs=0.25)


def test_scale_narrows_around_the_middle() -> None:
    actions = sequence(RandomExploration(ExplorationConfig(scale=0.1), SPEC), 1, 200)
    assert (np.abs(actions - [0.0, 1.5]).max(axis=0) <= np.array([0.3, 0.05]) + 1e-12).all()


def test_overlapping_plans_agree_and_streams_differ() -> None:
    exploration = RandomExploration(ExplorationConfig(seed=1, rows=5), SPEC)
    np.testing.assert_array_equal(exploration.actions(2, 10, CENTRE)[3], exploration.actions(2, 13, CENTRE)[0])
    assert not np.array_equal(exploration.actions(2, 10, CENTRE), exploration.actions(3, 10, CENTRE))
    other_seed = RandomExploration(ExplorationConfig(seed=2, rows=5), SPEC)
    assert not np.array_equal(exploration.actions(2, 10, CENTRE), other_seed.actions(2, 10, CENTRE))


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
