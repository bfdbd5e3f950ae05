# SPDX-License-Identifier: Apache-2.0
"""Pairing of time steps, validated transitions, the replay buffer."""

import dataclasses

import numpy as np
import pytest

from mbrl_core.dataset import ReplayBuffer, Transition, TransitionAssembler, Transitions
from mbrl_core.messages import StepType, TimeStep


def episode(number: int, length: int) -> list[TimeStep]:
    """Time steps whose state is [number, step] and whose action is the step whose interval it was executed in."""
    steps = []
    for step in range(length + 1):
        kind = StepType.FIRST if step == 0 else StepType.LAST if step == length else StepType.MID
        action = np.array([np.nan if step == 0 else step - 1.0])
        steps.append(TimeStep(number, step, kind, np.array([number, float(step)]), action))
    return steps


def assemble(steps: list[TimeStep]) -> list[Transition]:
    assembler = TransitionAssembler()
    return [transition for step in steps if (transition := assembler.add(step)) is not None]


def test_consecutive_steps_make_transitions_and_episodes_stay_apart() -> None:
    transitions = assemble(episode(1, 3) + episode(2, 2))
    assert [(item.episode, item.step) for item in transitions] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    for item in transitions:
        assert item.action[0] == item.step == item.state[1] == item.next_state[1] - 1


def test_a_lost_message_costs_its_transitions_and_pairs_nothing_wrong() -> None:
    random = np.random.default_rng(0)
    whole = episode(1, 40) + episode(2, 40)
    for _ in range(50):
        kept = [step for step in whole if random.random() > 0.3]
        transitions = assemble(kept)
        present = {(step.episode, step.step) for step in kept}
        expected = [key for key in sorted(present) if (key[0], key[1] + 1) in present]
        assert [(item.episode, item.step) for item in transitions] == expected
        assert all(item.action[0] == item.step == item.next_state[1] - 1 for item in transitions)


def test_an_action_changed_within_the_interval_is_not_learned_from() -> None:
    steps = episode(1, 3)
    steps[2] = dataclasses.replace(steps[2], action_valid=False)
    assert [item.step for item in assemble(steps)] == [0, 2]


def test_a_repeated_or_reversed_message_is_not_learned_from() -> None:
    steps = episode(1, 3)
    assert [item.step for item in assemble([steps[0], steps[0], steps[1], steps[1], steps[0], steps[2]])] == [0]


def test_the_buffer_keeps_order_and_forgets_the_oldest() -> None:
    buffer = ReplayBuffer(2, 1, capacity=1500)
    for item in assemble(episode(7, 2000)):
        buffer.add(item)
    transitions = buffer.transitions()
    assert len(buffer) == len(transitions) == 1500
    assert transitions.step.tolist() == list(range(500, 2000))
    np.testing.assert_array_equal(transitions.action[:, 0], transitions.step)
    copy = ReplayBuffer(2, 1)
    copy.extend(transitions)
    np.testing.assert_array_equal(copy.transitions().next_state, transitions.next_state)


@pytest.mark.parametrize("state", [np.array([1.0]), np.array([1.0, np.nan]), np.array([1.0, np.inf])])
def test_the_buffer_refuses_bad_rows_and_stays_as_it_was(state: np.ndarray) -> None:
    buffer = ReplayBuffer(2, 1)
    with pytest.raises(ValueError, match="replay buffer"):
        buffer.add(Transition(state, np.zeros(1), np.zeros(2), 0, 0))
    assert len(buffer) == 0


def test_a_wrong_dataset_cannot_be_made() -> None:
    good = Transitions(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros((3, 2)), np.zeros(3, int), np.arange(3))
    assert len(good.select(np.array([0, 2]))) == 2
    with pytest.raises(ValueError, match="actions"):
        dataclasses.replace(good, action=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="next states"):
        dataclasses.replace(good, next_state=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="non-finite"):
        dataclasses.replace(good, state=np.full((3, 2), np.nan))
