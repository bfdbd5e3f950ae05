# SPDX-License-Identifier: Apache-2.0
"""One episode: its numbering, and the time steps that are published of it."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.specs import Array
from mbrl_robot.control import Decision
from mbrl_robot.sent_commands import Coming


@dataclass(frozen=True)
class EpisodeRequest:
    """What StartEpisode asked for; `max_steps` 0 is unlimited, versions 0 are any."""

    max_steps: int = 0
    seed: int = 0
    required_task_version: int = 0
    required_model_version: int = 0


@dataclass
class Interval:
    """What was executed since the last tick.

    `action` [action_size] is the mean of what acted over the time between the two samples, whenever it was sent: for a
    command that leaves some time after the sample, the one before it has a share.
    """

    decision: Decision
    command_time_ns: int
    action: Array
    valid: bool = True


class Episode:
    """Builds the time steps of one episode and knows when it is over."""

    def __init__(self, number: int, request: EpisodeRequest, action_size: int) -> None:
        self.number = number
        self.request = request
        self.step = 0
        self.interval: Interval | None = None
        self.end_reason = EndReason.NOT_ENDED
        self.required_model_version = request.required_model_version
        self._no_action = np.full(action_size, np.nan)

    def request_end(self, reason: EndReason) -> None:
        """Asks for the end at the next tick. A fault is not overruled by anything else."""
        if self.end_reason != EndReason.FAULT:
            self.end_reason = reason

    def executed(self, decision: Decision, command_time_ns: int, action: Array | None = None) -> None:
        """Notes the command of the interval that begins at the current step; `action` where it acts only in part."""
        self.interval = Interval(decision, command_time_ns, decision.action if action is None else action)

    def interrupted(self, decision: Decision, command_time_ns: int) -> None:
        """Notes a command that cuts the current interval in two: it is no transition any more."""
        self.interval = Interval(decision, command_time_ns, decision.action, valid=False)

    def held(self, steps: int) -> None:
        """The current command was held for `steps` more steps than it was meant for: its row has grown older."""
        if self.interval is not None and steps > 0:
            decision = self.interval.decision
            self.interval.decision = dataclasses.replace(decision, age=decision.age + steps)

    def invalidate(self) -> None:
        """The current interval is no transition: it was not as long as the control period, or its state is unknown."""
        if self.interval is not None:
            self.interval.valid = False

    def advance(self, step: int) -> EndReason:
        """Enters tick `step` and says whether the episode ends there."""
        if step <= self.step:
            raise ValueError(f"episode {self.number}: step {step}, expected more than {self.step}")
        self.step = step
        limit = self.request.max_steps
        if self.end_reason == EndReason.NOT_ENDED and limit and step >= limit:
            self.end_reason = EndReason.TIME_LIMIT
        return self.end_reason

    def time_step(self, state: Array, coming: Coming, interval: Interval | None) -> TimeStep:
        """Time step of the current tick: `interval` is what was executed until here, None at FIRST."""
        if interval is None:
            return self._first(state, coming)
        last = self.end_reason != EndReason.NOT_ENDED
        return TimeStep(
            episode=self.number,
            step=self.step,
            step_type=StepType.LAST if last else StepType.MID,
            state=state,
            action=interval.action,
            action_valid=interval.valid,
            end_reason=self.end_reason,
            controller=interval.decision.controller,
            fallback=interval.decision.fallback,
            row_age=interval.decision.age,
            committed_actions=coming.executed,
            sent_actions=coming.sent,
            required_model_version=self.required_model_version,
            required_task_version=self.request.required_task_version,
        )

    def _first(self, state: Array, coming: Coming) -> TimeStep:
        return TimeStep(
            episode=self.number,
            step=self.step,
            step_type=StepType.FIRST,
            state=state,
            action=self._no_action,
            action_valid=False,
            committed_actions=coming.executed,
            sent_actions=coming.sent,
            required_model_version=self.required_model_version,
            required_task_version=self.request.required_task_version,
        )
