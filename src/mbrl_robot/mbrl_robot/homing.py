# SPDX-License-Identifier: Apache-2.0
"""The way back to the start: a slow joint-space motion of the driven joints, for all three command interfaces."""

from collections.abc import Callable

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, SpecError

# Speed by distance: the last stretch is an exponential of this rate.
APPROACH = 1.0  # 1/s
# Of the integral part: the time in which it does as much as the proportional one.
INTEGRAL_TIME = 0.5  # s
# Rate at which an error of the velocity fades with inverse dynamics; a fifth in one control period at most.
LARGEST_RATE = 5.0  # 1/s
LARGEST_SHARE = 0.2
# Faster than so many times its homing speed, a joint is not going home.
RUNAWAY = 2.0
RUNAWAY_MARGIN = 0.1  # m/s or rad/s
# [state_size] and accelerations [action_size] to SI efforts [action_size].
Efforts = Callable[[Array, Array], Array]


class Homing:
    """Moves the driven joints to `target` [action_size] (m or rad), none faster than `speeds` [action_size].

    The wanted velocity is proportional to what is left of the way, within the speed limit. position: a ramp from where
    the joint is, that never leads it by more than half a second of way. velocity: that velocity. effort: a
    proportional-integral controller of the velocity, whose answer is an acceleration that `efforts`, the robot's
    inverse dynamics, turns into efforts (computed torque: Spong, Hutchinson and Vidyasagar 2006, section 8.3); without
    them it is the effort itself, with `gains` [action_size] in normalised action per m/s or rad/s. The integral part
    carries what the model does not know, and stops growing where the action reaches its limits.

    Joints without position limits take the shorter way round. Raises SpecError where speeds or gains are no positive
    numbers.
    """

    LEAD_TIME = 0.5  # s

    def __init__(
        self, robot: Robot, target: Array, speeds: Array, gains: Array | None = None, efforts: Efforts | None = None
    ) -> None:
        action = robot.spec.action
        self._interface = action.interfaces[0]
        size = action.size
        _check_positive("homing_speeds", speeds, size)
        if self._interface == "effort" and efforts is None:
            _check_positive("homing_gains", np.zeros(0) if gains is None else gains, size)
        self._names = action.names
        self._positions = np.array(robot.action_joints)
        self._velocities = self._positions + len(robot.joints)
        joints = [robot.joints[index] for index in robot.action_joints]
        self._wraps = np.array([joint.kind == "angular" and not np.isfinite(joint.position_limits).any()
                                for joint in joints])  # fmt: skip
        self.target = np.asarray(target, dtype=np.float64)
        self._speeds = speeds
        ends = np.stack([action.lower, action.upper]) * np.array(action.scale)
        self._lower, self._upper = ends.min(axis=0), ends.max(axis=0)
        self._efforts = efforts
        if efforts is not None:
            self._gains = np.full(size, min(LARGEST_RATE, LARGEST_SHARE / robot.spec.period))
            self._largest_integral = 2.0 * self._gains * speeds
        elif gains is not None and len(gains):
            self._gains = gains * np.abs(np.array(action.scale))
            self._largest_integral = np.maximum(np.abs(self._lower), np.abs(self._upper))
        self._integral = np.zeros(size)
        self._reference: Array | None = None

    def way_left(self, state: Array) -> Array:
        """What is left of the way [action_size] in `state` [state_size], signed, m or rad."""
        way = self.target - state[self._positions]
        return np.where(self._wraps, (way + np.pi) % (2.0 * np.pi) - np.pi, way)

    def runaway(self, state: Array) -> str:
        """Which joint is far faster in `state` [state_size] than it should be, in words; empty where none is."""
        fastest = RUNAWAY * self._speeds + RUNAWAY_MARGIN
        for name, velocity, allowed in zip(self._names, state[self._velocities], fastest, strict=True):
            if not abs(velocity) <= allowed:
                return f"joint {name!r} moves at {velocity:.2f}, expected at most {allowed:.2f} on the way to its start"
        return ""

    def command(self, state: Array, elapsed: float) -> Array:
        """SI command [action_size] in `state` [state_size], `elapsed` seconds after the last one."""
        wanted = np.clip(APPROACH * self.way_left(state), -self._speeds, self._speeds)
        if self._interface == "velocity":
            return np.asarray(wanted)
        if self._interface == "position":
            return self._ramp(state, elapsed)
        error = wanted - state[self._velocities]
        integral = self._integral + self._gains * error * elapsed / INTEGRAL_TIME
        integral = np.clip(integral, -self._largest_integral, self._largest_integral)
        answer = self._gains * error + integral
        command = answer if self._efforts is None else self._efforts(state, answer)
        within = np.clip(command, self._lower, self._upper)
        # Against winding up: it does not grow where the command is cut already.
        grows = np.sign(error) == np.sign(command)
        self._integral = np.where((command != within) & grows, self._integral, integral)
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


def _check_positive(name: str, values: Array, size: int) -> None:
    if values.shape != (size,) or not (np.isfinite(values).all() and (values > 0.0).all()):
        raise SpecError(f"{name}: got {values.tolist()}, expected {size} positive numbers")
