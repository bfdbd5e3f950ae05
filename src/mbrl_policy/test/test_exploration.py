# SPDX-License-Identifier: Apache-2.0
"""Random exploration: limits, reproducibility, overlap of consecutive plans."""

import math

import numpy as np

from mbrl_core.specs import ActionSpec
from mbrl_policy.exploration import ExplorationConfig, RandomExploration

ACTION = ActionSpec(
    names=("left", "right"), interfaces=("effort", "effort"), units=("N", "N"), lower=(-3.0, 1.0), upper=(3.0, 2.0),
    scale=(100.0, 1.0), slew=(math.inf, math.inf),
)  # fmt: skip


def sequence(exploration: RandomExploration, episode: int, steps: int) -> np.ndarray:
    return np.stack([exploration.actions(episode, step)[0] for step in range(steps)])


def test_actions_fill_the_range_and_stay_within_it() -> None:
    actions = sequence(RandomExploration(ExplorationConfig(seed=3), ACTION), 1, 2000)
    assert (actions >= ACTION.lower).all() and (actions <= ACTION.upper).all()
    # Mean of 2000 uniform numbers of range r: standard deviation r / sqrt(12 * 2000); five of them.
    tolerance = 5.0 * np.array([6.0, 1.0]) / math.sqrt(12.0 * 2000.0)
    assert (np.abs(actions.mean(axis=0) - [0.0, 1.5]) < tolerance).all()
    assert np.abs(np.corrcoef(actions[:-1, 0], actions[1:, 0])[0, 1]) < 5.0 / math.sqrt(2000.0)


def test_scale_narrows_around_the_middle() -> None:
    actions = sequence(RandomExploration(ExplorationConfig(scale=0.1), ACTION), 1, 200)
    assert (np.abs(actions - [0.0, 1.5]).max(axis=0) <= np.array([0.3, 0.05]) + 1e-12).all()


def test_overlapping_plans_agree_and_streams_differ() -> None:
    exploration = RandomExploration(ExplorationConfig(seed=1, rows=5), ACTION)
    np.testing.assert_array_equal(exploration.actions(2, 10)[3], exploration.actions(2, 13)[0])
    assert not np.array_equal(exploration.actions(2, 10), exploration.actions(3, 10))
    other_seed = RandomExploration(ExplorationConfig(seed=2, rows=5), ACTION)
    assert not np.array_equal(exploration.actions(2, 10), other_seed.actions(2, 10))


def test_hold_repeats_actions() -> None:
    actions = sequence(RandomExploration(ExplorationConfig(hold=4), ACTION), 1, 12)
    for start in (0, 4, 8):
        assert (actions[start : start + 4] == actions[start]).all()
    assert len(np.unique(actions[:, 0])) == 3
