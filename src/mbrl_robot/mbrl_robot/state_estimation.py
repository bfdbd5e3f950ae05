# SPDX-License-Identifier: Apache-2.0
"""From joint states as they come to the state of the robot file. What cannot be a state is refused."""

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.sensor_states import SensorRefused, SensorStates
from mbrl_robot.velocity_filter import Average, LineFit

# Arrivals that the expected delay and interval are taken from: one second at 50 Hz.
ARRIVALS = 50


class JointStatesRefused(ValueError):
    """Joint states are refused. `reason` is a short kind, the text says what came and what was expected."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """Whole state [whole_size], with the stamp of its source and the steady time of its arrival, both in nanoseconds.

    Without an estimator's sensors it is positions and velocities alone.
    """

    state: Array
    stamp_ns: int
    arrival_ns: int


class StateEstimator:
    """Keeps the newest valid state.

    Joints may come in any order and among others; the order of the robot file is made here. Velocities are those of
    the backend, or where it has none (an empty field, NaN) or the robot file asks for it, slopes of the positions. A
    joint that has once had a velocity must go on having one. Entries of `sensors` come behind, as new as there are.
    """

    def __init__(self, robot: Robot, topic: str = "joint_states", sensors: SensorStates | None = None) -> None:
        estimation = robot.estimation
        window = estimation.window or 0.5 * robot.spec.period
        self._sensors = sensors
        self._measured = estimation.source == "measured"
        self._slopes = [LineFit(window, joint.kind == "angular") for joint in robot.joints]
        self._averages = [Average(estimation.smoothing) for _ in robot.joints] if estimation.smoothing else []
        self._has_velocity = np.zeros(len(robot.joints), dtype=bool)
        self._joints = tuple(joint.name for joint in robot.joints)
        self._topic = topic
        self._names: tuple[str, ...] = ()
        self._order: list[int] = []
        self._earliest_stamp_ns: int | None = None
        self._delays: deque[int] = deque(maxlen=ARRIVALS)
        self._intervals: deque[int] = deque(maxlen=ARRIVALS)
        self.latest: Sample | None = None

    @property
    def expected_delay_ns(self) -> int:
        """Median of arrival (steady clock) minus stamp (source's clock), nanoseconds; 0 before anything has come."""
        return int(statistics.median(self._delays)) if self._delays else 0

    @property
    def arrivals(self) -> int:
        """Joint states since the last `restart`, as far as they count for the expected delay."""
        return len(self._delays)

    @property
    def expected_interval_ns(self) -> int:
        """Median time between two joint states, nanoseconds; 0 while unknown."""
        return int(statistics.median(self._intervals)) if self._intervals else 0

    def restart(self, stamp_ns: int) -> None:
        """Forgets the state: only stamps from `stamp_ns` on count from now on, even if they are older than before."""
        self.latest = None
        self._earliest_stamp_ns = stamp_ns
        self._delays.clear()
        for slope in self._slopes:
            slope.restart()
        for average in self._averages:
            average.restart()
        if self._sensors is not None:
            self._sensors.restart(stamp_ns)

    def update(
        self,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float],
        stamp_ns: int,
        arrival_ns: int,
    ) -> Sample | None:
        """Takes joint states and returns the sample, None when it is from before the last `restart`.

        Raises JointStatesRefused: wrong_length, missing_joint, duplicate_joint, non_finite, time_backwards,
        stale_sensor.
        """
        order = self._find_joints(tuple(names))
        for field, values in (("positions", positions), ("velocities", velocities)):
            if len(values) != len(names) and (values is positions or len(values) or self._has_velocity.any()):
                raise JointStatesRefused(
                    "wrong_length", f"{self._topic}: {len(values)} {field} for {len(names)} joints, expected as many"
                )
        given = [velocities[index] for index in order] if len(velocities) else [np.nan] * len(order)
        state = np.array([positions[index] for index in order] + given)
        lacking = np.isnan(state[len(order) :]) & ~self._has_velocity
        # Of a velocity that nobody gives, and that the robot file does without, nothing is asked.
        needed = np.concatenate([np.ones(len(order), dtype=bool), ~lacking & self._measured])
        if not np.isfinite(state[needed]).all():
            raise JointStatesRefused("non_finite", f"{self._topic}: state {state.tolist()}, expected finite numbers")
        if self._earliest_stamp_ns is not None and stamp_ns < self._earliest_stamp_ns:
            return None
        if self.latest is not None and stamp_ns < self.latest.stamp_ns:
            raise JointStatesRefused(
                "time_backwards",
                f"{self._topic}: stamp {stamp_ns} ns, expected at least the last one, {self.latest.stamp_ns} ns",
            )
        entries = self._entries(arrival_ns)
        if self.latest is not None:
            self._intervals.append(stamp_ns - self.latest.stamp_ns)
        self._delays.append(arrival_ns - stamp_ns)
        self._has_velocity |= ~np.isnan(state[len(order) :])
        self._estimate_velocities(state, stamp_ns)
        self.latest = Sample(np.concatenate([state, entries]), stamp_ns, arrival_ns)
        return self.latest

    def _entries(self, arrival_ns: int) -> Array:
        try:
            return np.zeros(0) if self._sensors is None else self._sensors.values(arrival_ns)
        except SensorRefused as error:
            raise JointStatesRefused(f"{error.reason}_sensor", f"{self._topic}: not without {error}") from None

    def _estimate_velocities(self, state: Array, stamp_ns: int) -> None:
        """Puts velocities into `state` [2 joints] where they are to be taken from positions, or smoothed."""
        count = len(self._joints)
        for index in range(count):
            if not self._measured or not self._has_velocity[index]:
                state[count + index] = self._slopes[index].add(stamp_ns, float(state[index]))
            elif self._averages:
                state[count + index] = self._averages[index].add(stamp_ns, float(state[count + index]))

    def _find_joints(self, names: tuple[str, ...]) -> list[int]:
        if names == self._names:
            return self._order
        missing = [joint for joint in self._joints if joint not in names]
        if missing:
            raise JointStatesRefused(
                "missing_joint", f"{self._topic}: no joint {missing[0]!r} among {', '.join(names) or 'none'}"
            )
        for joint in self._joints:
            if names.count(joint) > 1:
                raise JointStatesRefused("duplicate_joint", f"{self._topic}: joint {joint!r} comes twice")
        self._names, self._order = names, [names.index(joint) for joint in self._joints]
        return self._order
