# SPDX-License-Identifier: Apache-2.0
"""The way back to the start: a slow joint-space motion of the driven joints, for all three command interfaces."""

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, SpecError

# Without a gain of its own: what a joint is slowed down with where its drive takes velocities.
APPROACH = 1.0  # 1/s, speed by distance: the last stretch is an exponential of this rate
# Of the integral part: the time in which it does as much as the proportional one.
INTEGRAL_TIME = 0.5  # s


class Homing:
    """Moves the driven joints to `target` [action_size] (m or rad), none faster than `speeds` [action_size].

    The wanted velocity is proportional to what is left of the way, within the speed limit. position: a ramp from where
    the joint is, that never leads it by more than half a second of way. velocity: that velocity. effort: a
    proportional-integral controller of the velocity with `gains` [action_size], normalised action per m/s or rad/s;
    the integral part carries weight and friction and stops growing where the action reaches its limits.

    Joints without position limits take the shorter way round. Raises SpecError where speeds or gains are no positive
    numbers.
    """

    LEAD_TIME = 0.5  # s

    def __init__(self, robot: Robot, target: Array, speeds: Array, gains: Array) -> None:
        action = robot.spec.action
        self._interface = action.interfaces[0]
        for name, values in (("homing_speeds", speeds), ("homing_gains", gains)):
            if name == "homing_gains" and self._interface != "effort":
                continue
            if values.shape != (action.size,) or not (np.isfinite(values).all() and (values > 0.0).all()):
                raise SpecError(f"{name}: got {values.tolist()}, expected {action.size} positive numbers")
        self._positions = np.array(robot.action_joints)
        self._velocities = self._positions + len(robot.joints)
        joints = [robot.joints[index] for index in robot.action_joints]
        self._wraps = np.array([joint.kind == "angular" and not np.isfinite(joint.position_limits).any()
                                for joint in joints])  # fmt: skip
        self.target = np.asarray(target, dtype=np.float64)
        self._speeds = speeds
        self._scale = np.array(action.scale)
        self._gains = gains * np.abs(self._scale)
        self._lower = np.minimum(np.array(action.lower) * self._scale, np.array(action.upper) * self._scale)
        self._upper = np.maximum(np.array(action.lower) * self._scale, np.array(action.upper) * self._scale)
        self._integral = np.zeros(action.size)
        self._reference: Array | None = None

    def way_left(self, state: Array) -> Array:
        """What is left of the way [action_size] in `state` [state_size], signed, m or rad."""
        way = self.target - state[self._positions]
        return np.where(self._wraps, (way + np.pi) % (2.0 * np.pi) - np.pi, way)

    def command(self, state: Array, elapsed: float) -> Array:
        """SI command [action_size] in `state` [state_size], `elapsed` seconds after the last one."""
        wanted = np.clip(APPROACH * self.way_left(state), -self._speeds, self._speeds)
        if self._interface == "velocity":
            return np.asarray(wanted)
        if self._interface == "position":
            return self._ramp(state, elapsed)
        error = wanted - state[self._velocities]
        integral = self._integral + self._gains * error * elapsed / INTEGRAL_TIME
        command = self._gains * error + integral
        within = np.clip(command, self._lower, self._upper)
        # Against winding up: it does not grow where the command is cut already.
        self._integral = np.where((command == within) | (np.sign(error) != np.sign(command)), integral, self._integral)
        self._integral = np.clip(self._integral, self._lower, self._upper)
        return within

    def _ramp(self, state: Array, elapsed: float) -> Array:
        position = state[self._positions]
        if self._reference is None:
            self._reference = position.copy()
        goal = position + self.way_left(state)
        step = self._speeds * elapsed
        self._reference = self._reference + np.clip(goal - self._reference, -step, step)
        # A joint that is held back is not to be pulled with ever more force.
        lead = self._speeds * self.LEAD_TIME
        self._reference = np.clip(self._reference, position - lead, position + lead)
        return self._reference.copy()
