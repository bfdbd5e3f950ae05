# SPDX-License-Identifier: Apache-2.0
"""Time steps and plans as algorithms see them: the ROS messages of the same names, less the middleware."""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from mbrl_core.specs import Array


class StepType(IntEnum):
    """Place of a time step in its episode; the values are those of mbrl_msgs/TimeStep."""

    FIRST = 0
    MID = 1
    LAST = 2


class EndReason(IntEnum):
    """Why an episode ended; the values are those of mbrl_msgs/TimeStep."""

    NOT_ENDED = 0
    TERMINATED = 1
    TIME_LIMIT = 2
    ABORTED = 3
    FAULT = 4


@dataclass(frozen=True)
class TimeStep:
    """State at tick `step` and the action executed over the interval that ended there.

    state [state_size] SI units; action [action_size] normalised, NaN on FIRST; committed_actions
    [n, action_size]: row i is what interval step + i executes if nothing newer comes. sent_actions [m, action_size] are
    commands as sent, on a robot with a delay: see `mbrl_core.delay`.
    """

    episode: int
    step: int
    step_type: StepType
    state: Array
    action: Array
    action_valid: bool = True
    end_reason: EndReason = EndReason.NOT_ENDED
    controller: str = ""
    fallback: bool = False
    row_age: int = 0
    committed_actions: Array = field(default_factory=lambda: np.zeros((0, 0)))
    sent_actions: Array = field(default_factory=lambda: np.zeros((0, 0)))
    required_model_version: int = 0
    required_task_version: int = 0


@dataclass(frozen=True)
class Plan:
    """What a planner answers: actions for the coming intervals.

    actions [H, action_size] normalised, what each step sends; predicted_states and predicted_std [H + 1, state_size],
    of when it is sent; gains [H, action_size, state_size] (needs predicted_states): u = u_t + K_t (x - x_t), angles
    wrapped.
    """

    actions: Array
    predicted_states: Array | None = None
    predicted_std: Array | None = None
    gains: Array | None = None
    predicted_return: float = float("nan")
    iterations: int = 0
    deadline_missed: bool = False

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or len(self.actions) < 1:
            raise ValueError(f"plan actions: got shape {self.actions.shape}, expected [H, action_size] with H >= 1")
        rows = len(self.actions) + 1
        for name in ("predicted_states", "predicted_std"):
            values = getattr(self, name)
            if values is not None and (values.ndim != 2 or len(values) != rows):
                raise ValueError(f"plan {name}: got shape {values.shape}, expected [{rows}, state_size]")
        if self.gains is not None and self.predicted_states is None:
            raise ValueError("plan gains: expected predicted_states beside them, got none")
