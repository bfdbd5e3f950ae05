# SPDX-License-Identifier: Apache-2.0
"""Corrections: which stretches of recorded time steps are an expert's."""

import dataclasses

import numpy as np
import pytest

from mbrl_core.messages import StepType, TimeStep
from mbrl_policy.imitation.corrections import corrections


def steps_of(episode: int, served: str) -> list[TimeStep]:
    """An episode whose controllers' first letters are `served`: t is teleop, p the policy."""
    names = {"t": "teleop", "p": "policy"}
    return [
        TimeStep(
            episode,
            step,
            StepType.FIRST if step == 0 else StepType.LAST if step == len(served) else StepType.MID,
            np.array([10.0 * episode + step]),
            np.full(1, np.nan) if step == 0 else np.array([0.01 * step]),
            action_valid=step > 0,
            controller="" if step == 0 else names[served[step - 1]],
        )
        for step in range(len(served) + 1)
    ]


def test_stretches_of_the_expert_are_found_with_where_they_were() -> None:
    found = corrections([*steps_of(1, "pttpptttp"), *steps_of(2, "tt")], ("teleop",))
    assert [(item.episode, item.first_step, len(item)) for item in found] == [(1, 1, 2), (1, 5, 3), (2, 0, 2)]
    # The action of a step is the one that was executed over the interval that ended there.
    np.testing.assert_array_equal(found[0].states[:, 0], [11.0, 12.0, 13.0])
    np.testing.assert_allclose(found[0].actions[:, 0], [0.02, 0.03])
    assert [len(item) for item in corrections(steps_of(1, "ptptt"), {"teleop"}, least_steps=2)] == [2]
    assert corrections(steps_of(1, "ppp"), ["teleop"]) == []
    both = corrections(steps_of(3, "ptp"), ("teleop", "policy"))
    assert [len(item) for item in both] == [3]


def test_a_gap_or_a_changed_action_ends_a_stretch() -> None:
    steps = steps_of(1, "tttttt")
    lost = corrections(steps[:3] + steps[4:], ("teleop",))
    assert [(item.first_step, len(item)) for item in lost] == [(0, 2), (4, 2)]
    guarded = [dataclasses.replace(step, action_valid=step.step not in (0, 3)) for step in steps]
    assert [(item.first_step, len(item)) for item in corrections(guarded, ("teleop",))] == [(0, 2), (3, 3)]
    # Two episodes of the same number in two recordings, or a restarted one, are not joined.
    assert [len(item) for item in corrections([*steps_of(1, "tt")[:2], *steps_of(1, "tt")], ("teleop",))] == [1, 2]


def test_experts_without_names_are_refused() -> None:
    for experts in ((), "teleop"):
        with pytest.raises(ValueError, match="experts: got .*, expected names of controllers"):
            corrections([], experts)
    with pytest.raises(ValueError, match="least_steps: got 0"):
        corrections([], ("teleop",), least_steps=0)
