# SPDX-License-Identifier: Apache-2.0
"""What is sent at a step and why: plans, safe action and guard together. Both clocks use it; it has no ROS."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.executor import HOMING, SAFE, PlanExecutor
from mbrl_robot.guard import Guard
from mbrl_robot.joint_guard import JointGuard
from mbrl_robot.safe_action import SafeController


@dataclass(frozen=True)
class Decision:
    """An action [action_size] (normalised) that may be sent, the same as SI command, and where it comes from.

    Not a number: nothing may be sent, see `Guard.limit`.
    """

    action: Array
    command: Array
    controller: str
    fallback: bool
    age: int


class Control:
    """Decides actions: the selected controller's row, else the chain's, else the safe action, always guarded."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.executor = PlanExecutor(robot.spec, robot.chain, np.array(robot.guard.predicted_std))
        self.guard = Guard(robot.spec.action, JointGuard(robot))
        self._safe = SafeController(robot)
        self._scale = np.array(robot.spec.action.scale)

    def decide(
        self, step: int, state: Array, elapsed: float, newest_answer: int | None = None, seen: Array | None = None
    ) -> Decision:
        """Action of `step` in the whole `state` [whole_size], `elapsed` seconds after the last command.

        Feedback of plans is from what everybody sees of it, `seen` [state_size]; None where that is all.
        """
        seen = state if seen is None else seen
        row = None if self.guard.emergency_stop else self.executor.choose(step, seen, newest_answer)
        if row is None:
            return self.safe(state, elapsed)
        self._safe.leave()
        action = self.guard.limit(row.action, elapsed, state).action
        return Decision(action, action * self._scale, row.controller, row.controller != self.executor.selected, row.age)

    def restart(self, state: Array) -> None:
        """The backend has been reset to `state` [whole_size]: what was held or commanded before is over."""
        self._safe.leave()
        if self.robot.interface == "position":
            self.guard.follow(state[list(self.robot.action_joints)] / self._scale)

    def safe(self, state: Array | None, elapsed: float) -> Decision:
        """The robot's safe action in `state` [whole_size]; in an unknown state zero, or the last position sent."""
        action = self.guard.limit(self._safe.action(state), elapsed, state).action
        return Decision(action, action * self._scale, SAFE, self.executor.selected != SAFE, 0)

    def homing(self, action: Array, state: Array | None, elapsed: float) -> Decision:
        """A normalised action [action_size] on the way to the start, between episodes, within all limits."""
        self._safe.leave()
        allowed = self.guard.limit(action, elapsed, state).action
        return Decision(allowed, allowed * self._scale, HOMING, False, 0)

    def begin(self) -> None:
        """Nobody has commanded for a while: what was held before is over, and the slew limit starts from rest."""
        self._safe.leave()
        self.guard.restart()

    def committed_actions(
        self, step: int, state: Array, count: int, decided: bool, newest_answer: int | None = None
    ) -> Array:
        """Limited actions [n, action_size], n <= count, that steps `step`, `step` + 1, ... get if nothing newer comes.

        `decided` is true when the action of `step` has been sent already. Rows end where no plan has one: what the safe
        action will be depends on states to come. Feedback acts on states to come too: only the feed-forward counts.
        """
        rows = []
        last = self.guard.last
        for index in range(count):
            if index == 0 and decided:
                rows.append(last)
                continue
            planned = None if self.guard.emergency_stop else self.executor.planned(step + index, newest_answer)
            if planned is None and index > 0:
                break
            wanted = self._safe.action(state) if planned is None else planned
            # Only the state of the first is known.
            last = self.guard.preview(wanted, self.robot.spec.period, last, state if index == 0 else None)
            rows.append(last)
        return np.array(rows).reshape(len(rows), self.robot.spec.action.size)
