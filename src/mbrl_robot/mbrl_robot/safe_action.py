# SPDX-License-Identifier: Apache-2.0
"""The robot's own last resort: zero, damping or hold, a state feedback that needs nobody else."""

import numpy as np

from mbrl_core.command_interfaces import rest_action
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, state_difference


class SafeController:
    """Computes the safe action of a robot file, normalised [action_size], before limits.

    zero: nothing. damping (efforts): u = -gain * velocity of the action's joint. hold: back to the position at the
    first call after `leave`. With efforts u = gain * (entry position - position) - 2 sqrt(gain) * velocity, critically
    damped for a unit inertia; with velocities u = gain * (entry position - position); with positions the entry position
    itself.
    """

    def __init__(self, robot: Robot) -> None:
        self._kind = robot.safe_action.kind
        self._interface = robot.interface
        self._gains = np.array(robot.safe_action.gains)
        self._scale = np.array(robot.spec.action.scale)
        self._angular = np.array([robot.joints[index].kind == "angular" for index in robot.action_joints])
        self._positions = np.array(robot.action_joints)
        self._velocities = self._positions + len(robot.joints)
        self._entry: Array | None = None

    def leave(self) -> None:
        """Another controller serves now: the next call of `action` is a new entry."""
        self._entry = None

    def action(self, state: Array | None) -> Array:
        """Safe action [action_size] in a whole `state` [whole_size].

        When the state is unknown it is zero, and for positions not a number: there is none that would be safe.
        """
        if state is None and self._interface == "position":
            return np.full(len(self._positions), np.nan)
        if state is None or self._kind == "zero":
            return np.zeros(len(self._positions))
        velocity = state[self._velocities]
        if self._kind == "damping":
            return -self._gains * velocity
        if self._entry is None:
            self._entry = state.copy()
        if self._interface == "position":
            return self._entry[self._positions] / self._scale
        error = state_difference(self._entry[self._positions], state[self._positions], self._angular)
        if self._interface == "velocity":
            return self._gains * error
        return self._gains * error - 2.0 * np.sqrt(self._gains) * velocity


def rest_command(robot: Robot, state: Array | None, last: Array) -> Array | None:
    """The last SI command [action_size] of somebody who ends: no effort, no velocity, or the present position.

    Where the whole `state` [whole_size] is unknown, a robot that is driven by positions is told again what it was told
    `last` [action_size], normalised; None where nobody has told it anything.
    """
    action = robot.spec.action
    positions = None if state is None else state[list(robot.action_joints)]
    command = rest_action(robot.interface, action.size, positions)
    if command is None:
        return last * np.array(action.scale) if np.isfinite(last).all() else None
    if robot.interface == "position":
        bounds = np.sort(np.array([action.lower, action.upper]) * np.array(action.scale), axis=0)
        return np.clip(command, bounds[0], bounds[1])
    return command
