# SPDX-License-Identifier: Apache-2.0
"""Plans of action chunks: rows for the steps that an answer can reach, from all chunks of the episode."""

import numpy as np
import pytest
from test_live_rollout import SPEC, episode

from mbrl_core.policies.fast import FastChunks, FastLayers, Observation
from mbrl_policy.policy_controller import PolicyController, PolicyFailed

CHUNK = 4


def policy(ensembling: float = 0.5) -> FastChunks:
    """Row i of a chunk says 0.1 * angle + 0.01 * i."""
    observation = Observation(2, np.array([1]), np.array([0]), np.zeros(3), np.ones(3))
    # Of (velocity, sine, cosine) only the velocity counts, which in `episode` is 0.1 a step.
    weight = np.zeros((CHUNK, 3), np.float32)
    weight[:, 0] = 0.1
    rows = FastLayers([(weight, 0.01 * np.arange(CHUNK, dtype=np.float32))])
    return FastChunks(SPEC.action, observation, FastLayers([(weight[:1], np.zeros(1))]), False, rows, ensembling)


def said(made: int, step: int) -> float:
    """What the chunk made at step `made` says for `step`."""
    return 0.1 * 0.1 * made + 0.01 * (step - made)


def test_rows_are_the_means_of_what_all_chunks_say() -> None:
    controller = PolicyController(policy(), SPEC, rows=2)
    controller.warm_up()
    steps = episode(6)
    answers = [controller.answer(step) for step in steps[:4]]
    assert all(answer is not None and answer.plan.gains is None for answer in answers)
    assert answers[3] is not None and answers[3].start_step == 3
    weights = np.exp(-0.5 * np.arange(4))
    expected = [
        weights @ [said(made, 3) for made in range(4)] / weights.sum(),
        weights[:3] @ [said(made, 4) for made in range(1, 4)] / weights[:3].sum(),
    ]
    np.testing.assert_allclose(answers[3].plan.actions[:, 0], expected, atol=1e-6)


def test_a_late_answer_begins_with_the_row_that_it_can_reach() -> None:
    controller = PolicyController(policy(), SPEC, rows=3)
    first = controller.answer(episode(6)[0], delay_steps=2)
    assert first is not None and first.start_step == 2
    np.testing.assert_allclose(first.plan.actions[:, 0], [said(0, 2), said(0, 3)], atol=1e-6)
    with pytest.raises(PolicyFailed, match="its chunks end before step 5, where the plan .* step 1 begins"):
        controller.answer(episode(6)[1], delay_steps=4)


def test_another_episode_begins_with_nothing_said() -> None:
    controller = PolicyController(policy(), SPEC)
    for step in episode(6)[:3]:
        controller.answer(step)
    for new in (episode(6, number=4)[0], episode(6, number=5)[2]):
        answer = controller.answer(new)
        assert answer is not None
        np.testing.assert_allclose(answer.plan.actions[0], said(new.step, new.step), atol=1e-6)
