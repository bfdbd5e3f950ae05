# SPDX-License-Identifier: Apache-2.0
"""The last word on every command: limits, slew limits, finiteness, and the latched emergency stop."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import ActionSpec, Array
from mbrl_robot.joint_guard import JointGuard


@dataclass(frozen=True)
class GuardedAction:
    """An action [action_size] that may be sent. `limited` is true when it is not what was asked for."""

    action: Array
    limited: bool


class Guard:
    """Limits normalised actions [action_size] to their range and to their largest change per second.

    The slew limit starts from the last action that was sent, whoever asked for it, so that a change of controller
    cannot jerk the robot, and has the last word before the range: soft stops and limits of speed of the `joints` need
    margins that leave room for it. It is not a safety-rated device.

    Nothing is rest for efforts and velocities. For positions it is where the robot was told to be: until somebody has
    commanded, `last` is not a number, and there is no slew limit.
    """

    def __init__(self, spec: ActionSpec, joints: JointGuard | None = None) -> None:
        # How many commands were held back, by what: not_finite, unknown_position, soft_stop, velocity, slew, range.
        self.held_back: Counter[str] = Counter()
        self._joints = joints
        self._lower = np.array(spec.lower)
        self._upper = np.array(spec.upper)
        slew = np.array(spec.slew)
        self._has_slew = np.isfinite(slew)
        self._slews = bool(self._has_slew.any())
        # Infinity times no time would be no number.
        self._finite_slew = np.where(self._has_slew, slew, 0.0)
        # A motor at rest: what nobody has commanded is as near to zero as the limits allow.
        self._rest = np.clip(np.zeros(spec.size), self._lower, self._upper)
        self._drives_positions = spec.interfaces[0] == "position"
        if self._drives_positions:
            self._rest = np.full(spec.size, np.nan)
        self._last = self._rest
        self._emergency_stop = False

    @property
    def last(self) -> Array:
        """Action [action_size] sent last; NaN where nobody has told a position yet."""
        return self._last

    @property
    def emergency_stop(self) -> bool:
        """True while the emergency stop is latched."""
        return self._emergency_stop

    def latch_emergency_stop(self) -> None:
        """Latches the emergency stop; only `reset_emergency_stop` clears it."""
        self._emergency_stop = True

    def reset_emergency_stop(self) -> None:
        """Clears the emergency stop."""
        self._emergency_stop = False

    def restart(self) -> None:
        """The backend has been reset and its command with it: the slew limit starts from rest.

        Where a robot rests that is driven by positions, `follow` says.
        """
        self._last = self._rest

    def follow(self, action: Array) -> None:
        """Somebody else has sent an action [action_size], finite: the slew limit starts from there."""
        self._last = np.minimum(np.maximum(np.asarray(action, dtype=np.float64), self._lower), self._upper)

    def preview(self, action: Array, elapsed: float, last: Array | None = None, state: Array | None = None) -> Array:
        """What `limit` would make of an action [action_size] `elapsed` seconds after `last` (default: last sent)."""
        return self._limited(action, elapsed, self._last if last is None else last, state)[0]

    def limit(self, action: Array, elapsed: float, state: Array | None = None) -> GuardedAction:
        """Limits an action that is about to be sent in `state` [state_size] `elapsed` seconds after the last one.

        It is remembered as sent. An entry that is not finite becomes zero, as near as the limits allow; a position
        stays that of the last command, and is not a number where there was none: nothing is to be sent then. In an
        unknown state (None) there are no soft stops and no limits of speed.
        """
        asked = np.asarray(action, dtype=np.float64)
        allowed, kinds = self._limited(asked, elapsed, self._last, state)
        self.held_back.update(kinds)
        self._last = allowed
        return GuardedAction(allowed, bool(kinds))

    def _limited(self, asked: Array, elapsed: float, last: Array, state: Array | None) -> tuple[Array, list[str]]:
        kinds = []
        finite = np.isfinite(asked)
        wanted = asked
        if not finite.all():
            kinds.append("unknown_position" if self._drives_positions else "not_finite")
            wanted = np.where(finite, asked, last if self._drives_positions else 0.0)
        if self._joints is not None:
            wanted, held_back = self._joints.bound(wanted, state)
            kinds += held_back
        # np.clip takes several times as long on so few numbers.
        within_range = np.minimum(np.maximum(wanted, self._lower), self._upper)
        if (within_range != wanted).any():
            kinds.append("range")
        if not self._slews:
            return within_range, kinds
        change = np.where(self._has_slew, self._finite_slew * (elapsed if elapsed > 0.0 else 0.0), np.inf)
        # The last action lies within the range, so both bounds hold at once; one that is no number does not bound.
        allowed = np.fmin(np.fmax(within_range, last - change), last + change)
        if (allowed != within_range).any():
            kinds.append("slew")
        return allowed, kinds
