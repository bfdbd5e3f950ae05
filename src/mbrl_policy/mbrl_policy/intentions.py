# SPDX-License-Identifier: Apache-2.0
"""What controllers meant to do, where something else was executed: the labels of demonstrations under noise."""

from collections.abc import Sequence

import numpy as np

from mbrl_core.messages import TimeStep
from mbrl_core.specs import Array, RobotSpec

INTENDED_PLAN = "intended_plan"  # topic: plans before noise was added to them


class Intentions:
    """What was meant in one episode: plans as they were before a disturbance, within the limits.

    Laskey et al. 2017 (arXiv:1703.09327) label a state with the action that the supervisor meant, not with the one
    that was executed. A controller that says once what it means says so for each of its steps: where that is missing
    it was lost, and the action executed there is no label.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._lower, self._upper = np.array(spec.action.lower), np.array(spec.action.upper)
        self._plans: dict[str, dict[int, tuple[int, Array]]] = {}  # controller; answered step; start step, actions

    def add(self, controller: str, answers_step: int, start_step: int, actions: Array) -> None:
        """Row i of `actions` [H, m], normalised, was meant for step `start_step` + i, in answer to `answers_step`."""
        meant = np.clip(actions, self._lower, self._upper)
        self._plans.setdefault(controller, {})[answers_step] = (start_step, meant)

    def said(self, time_step: TimeStep) -> Array | None:
        """[m] that was said to be meant for the interval that ended at `time_step`; None where nothing was.

        The row that was executed tells by its age which plan it is of.
        """
        interval = time_step.step - 1
        start_step, actions = self._plans.get(time_step.controller, {}).get(
            interval - time_step.row_age, (0, np.zeros((0, 0)))
        )
        row = interval - start_step
        return actions[row] if 0 <= row < len(actions) else None

    def meant(self, time_step: TimeStep) -> Array | None:
        """[m] that was meant for the interval that ended at `time_step`: what was executed where its controller never
        says what it means, None where it does and what it said was lost.
        """
        if time_step.controller not in self._plans:
            return time_step.action
        return self.said(time_step)

    def label(self, steps: Sequence[TimeStep]) -> Array | None:
        """[T, m] that was meant in the intervals between T + 1 time steps, NaN where that was lost; None where nobody
        meant anything else than what was executed.
        """
        if not any(step.controller in self._plans for step in steps[1:]):
            return None
        found = [(step, self.meant(step)) for step in steps[1:]]
        return np.array([np.full_like(step.action, np.nan) if action is None else action for step, action in found])
