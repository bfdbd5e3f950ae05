# SPDX-License-Identifier: Apache-2.0
"""The last word on every command: limits, slew limits, finiteness, and the latched emergency stop."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import ActionSpec, Array


@dataclass(frozen=True)
class GuardedAction:
    """An action [action_size] that may be sent. `limited` is true when it is not what was asked for."""

    action: Array
    limited: bool


class Guard:
    """Limits normalised actions [action_size] to their range and to their largest change per second.

    The slew limit starts from the last action that was sent, whoever asked for it, so that a change of controller
    cannot jerk the robot. It is not a safety-rated device.
    """

    def __init__(self, spec: ActionSpec) -> None:
        self._lower = np.array(spec.lower)
        self._upper = np.array(spec.upper)
        self._slew = np.array(spec.slew)
        # A motor at rest: what nobody has commanded is as near to zero as the limits allow.
        self._rest = np.clip(np.zeros(spec.size), self._lower, self._upper)
        self._last = self._rest
        self._emergency_stop = False

    @property
    def last(self) -> Array:
        """Action [action_size] sent last."""
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
        """The backend has been reset and its command with it: the slew limit starts from rest."""
        self._last = self._rest

    def follow(self, action: Array) -> None:
        """Somebody else has sent an action [action_size], finite: the slew limit starts from there."""
        self._last = np.minimum(np.maximum(np.asarray(action, dtype=np.float64), self._lower), self._upper)

    def preview(self, action: Array, elapsed: float, last: Array | None = None) -> Array:
        """What `limit` would make of an action [action_size] `elapsed` seconds after `last` (default: last sent)."""
        last = self._last if last is None else last
        # The last action lies within the limits, so both bounds can hold at once.
        change = self._slew * max(elapsed, 0.0)
        # np.clip takes several times as long on so few numbers.
        within_slew = np.minimum(np.maximum(action, last - change), last + change)
        return np.minimum(np.maximum(within_slew, self._lower), self._upper)

    def limit(self, action: Array, elapsed: float) -> GuardedAction:
        """Limits an action that is about to be sent `elapsed` seconds after the last one, and remembers it.

        An entry that is not finite becomes zero, as near as the limits allow.
        """
        asked = np.asarray(action, dtype=np.float64)
        finite = np.where(np.isfinite(asked), asked, 0.0)
        allowed = self.preview(finite, elapsed)
        limited = bool(np.any(allowed != asked))
        self._last = allowed
        return GuardedAction(allowed, limited)
