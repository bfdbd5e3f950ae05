# SPDX-License-Identifier: Apache-2.0
"""What the state of a joint leaves of its action: soft stops before the position limits, and limits of speed."""

import numpy as np

from mbrl_core.guard_limits import SoftStop, SpeedLimit
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array


class JointGuard:
    """Bounds of normalised actions [action_size] in a state.

    A soft stop acts where the joint is beyond it, or would be after one control period and the robot's own delay at its
    present speed. What pushes further out is not passed: a velocity becomes zero, an effort zero less `braking` times
    the speed outwards, a position that of the stop. A limit of speed does the same to an effort where the joint is
    faster; a velocity is cut to the limit, and a position to what the joint reaches at it within one control period,
    however fast it is. Where both act, the soft stop has the last word. It knows no masses: whether the joint comes to
    rest within the margin is for whoever chooses margin and braking.
    """

    def __init__(self, robot: Robot) -> None:
        limits, action = robot.guard, robot.spec.action
        size = action.size
        self._period = robot.spec.period
        self._ahead = robot.spec.period + robot.spec.delay
        self._soft_stops = limits.soft_stops or (None,) * size
        self._speeds = limits.speeds or (None,) * size
        self._interfaces = action.interfaces
        self._scale = action.scale
        self._positions = robot.action_joints
        self._velocities = tuple(index + len(robot.joints) for index in robot.action_joints)
        self._acting = [
            index for index in range(size) if self._soft_stops[index] is not None or self._speeds[index] is not None
        ]

    def bound(self, action: Array, state: Array | None) -> tuple[Array, tuple[str, ...]]:
        """The action [action_size] as far as it may be passed in `state` [whole_size], and what held it back.

        In an unknown state (None) everything passes.
        """
        if state is None or not self._acting:
            return action, ()
        bounded = np.array(action, dtype=np.float64)
        kinds = []
        for index in self._acting:
            scale = self._scale[index]
            asked = bounded[index] * scale
            position, velocity = float(state[self._positions[index]]), float(state[self._velocities[index]])
            passed = asked
            speed, stop = self._speeds[index], self._soft_stops[index]
            if speed is not None:
                passed = self._limit_speed(index, speed, passed, position, velocity)
                if passed != asked:
                    kinds.append("velocity")
            if stop is not None:
                before = passed
                passed = self._stop(index, stop, passed, position, velocity)
                if passed != before:
                    kinds.append("soft_stop")
            # Scaling there and back would leave a rounding error in what nobody has held back.
            if passed != asked:
                bounded[index] = passed / scale
        return bounded, tuple(kinds)

    def _stop(self, index: int, stop: SoftStop, value: float, position: float, velocity: float) -> float:
        if self._interfaces[index] == "position":
            return min(max(value, stop.lower), stop.upper)
        braking = stop.braking * abs(self._scale[index])
        soon = position + velocity * self._ahead
        if max(position, soon) >= stop.upper:
            return min(value, self._brake(index, braking, velocity))
        if min(position, soon) <= stop.lower:
            return max(value, -self._brake(index, braking, -velocity))
        return value

    def _limit_speed(self, index: int, speed: SpeedLimit, value: float, position: float, velocity: float) -> float:
        interface = self._interfaces[index]
        if interface == "velocity":
            return min(max(value, -speed.limit), speed.limit)
        if interface == "position":
            reach = speed.limit * self._period
            return min(max(value, position - reach), position + reach)
        if abs(velocity) < speed.limit:
            return value
        braking = speed.braking * abs(self._scale[index])
        if velocity > 0.0:
            return min(value, self._brake(index, braking, velocity - speed.limit))
        return max(value, -self._brake(index, braking, -velocity - speed.limit))

    def _brake(self, index: int, braking: float, outwards: float) -> float:
        """Largest value outwards at a speed outwards: zero, or an effort that brakes."""
        if self._interfaces[index] != "effort":
            return 0.0
        return -braking * max(outwards, 0.0)
