# SPDX-License-Identifier: Apache-2.0
"""The robot's own last resort: zero, damping or hold, a state feedback that needs nobody else."""

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, state_difference


class SafeController:
    """Computes the safe action of a robot file, normalised [action_size], before limits.

    damping: u = -gain * velocity of the action's joint. hold: u = gain * (entry position - position)
    - 2 sqrt(gain) * velocity, critically damped for a unit inertia; the entry position is that of the first call
    after `leave`.
    """

    def __init__(self, robot: Robot) -> None:
        self._kind = robot.safe_action.kind
        self._gains = np.array(robot.safe_action.gains)
        self._angular = robot.spec.state.angular
        self._positions = np.array(robot.action_joints)
        self._velocities = self._positions + len(robot.joints)
        self._entry: Array | None = None

    def leave(self) -> None:
        """Another controller serves now: the next call of `action` is a new entry."""
        self._entry = None

    def action(self, state: Array | None) -> Array:
        """Safe action [action_size] in `state` [state_size]; zero when the state is unknown."""
        if state is None or self._kind == "zero":
            return np.zeros(len(self._positions))
        velocity = state[self._velocities]
        if self._kind == "damping":
            return -self._gains * velocity
        if self._entry is None:
            self._entry = state.copy()
        error = state_difference(self._entry, state, self._angular)[self._positions]
        return self._gains * error - 2.0 * np.sqrt(self._gains) * velocity
