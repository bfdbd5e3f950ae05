# SPDX-License-Identifier: Apache-2.0
"""Demonstrations refuse what is none, and become transitions."""

import numpy as np
import pytest

from mbrl_core.demonstrations import Demonstration, check_demonstrations

STATES = np.arange(8.0).reshape(4, 2)
ACTIONS = np.arange(3.0).reshape(3, 1)


def test_transitions_keep_episode_and_step() -> None:
    transitions = Demonstration(STATES, ACTIONS, episode=5, first_step=7).transitions()
    assert transitions.episode.tolist() == [5, 5, 5] and transitions.step.tolist() == [7, 8, 9]
    np.testing.assert_array_equal(transitions.state, STATES[:-1])
    np.testing.assert_array_equal(transitions.next_state, STATES[1:])
    np.testing.assert_array_equal(transitions.action, ACTIONS)


@pytest.mark.parametrize(
    ("states", "actions", "text"),
    [
        (STATES[:3], ACTIONS, r"states: got \(3, 2\), expected \[4, state_size\]"),
        (STATES[:1], ACTIONS[:0], r"expected \[T >= 1, action_size\]"),
        (STATES, ACTIONS[:, 0], r"expected \[T >= 1, action_size\]"),
        (STATES * np.nan, ACTIONS, "states: has numbers that are not finite"),
        (STATES, ACTIONS * np.inf, "actions: has numbers that are not finite"),
    ],
)
def test_what_is_no_demonstration_is_refused(states: np.ndarray, actions: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Demonstration(states, actions)


def test_those_of_another_robot_are_refused() -> None:
    demonstration = Demonstration(STATES, ACTIONS)
    check_demonstrations([demonstration], 2, 1)
    with pytest.raises(ValueError, match="got none"):
        check_demonstrations([], 2, 1)
    with pytest.raises(ValueError, match="demonstration 1: 2 state and 1 action variables, expected 3 and 1"):
        check_demonstrations([Demonstration(np.zeros((2, 3)), np.zeros((1, 1))), demonstration], 3, 1)
