# SPDX-License-Identifier: Apache-2.0
"""From joint states as they come to the state of the robot file. What cannot be a state is refused."""

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array

# Arrivals that the expected delay and interval are taken from: one second at 50 Hz.
ARRIVALS = 50


class JointStatesRefused(ValueError):
    """Joint states are refused. `reason` is a short kind, the text says what came and what was expected."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """State [state_size] with the stamp of its source and the steady time of its arrival, both in nanoseconds."""

    state: Array
    stamp_ns: int
    arrival_ns: int


class StateEstimator:
    """Keeps the newest valid state.

    Joints may come in any order and among others; the order of the robot file is made here.
    """

    def __init__(self, robot: Robot, topic: str = "joint_states") -> None:
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

    def update(
        self,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float],
        stamp_ns: int,
        arrival_ns: int,
    ) -> Sample | None:
        """Takes joint states and returns the sample, None when it is from before the last `restart`.

        Raises JointStatesRefused: wrong_length, missing_joint, duplicate_joint, non_finite, time_backwards.
        """
        order = self._find_joints(tuple(names))
        for field, values in (("positions", positions), ("velocities", velocities)):
            if len(values) != len(names):
                raise JointStatesRefused(
                    "wrong_length", f"{self._topic}: {len(values)} {field} for {len(names)} joints, expected as many"
                )
        state = np.array([positions[index] for index in order] + [velocities[index] for index in order])
        if not np.isfinite(state).all():
            raise JointStatesRefused("non_finite", f"{self._topic}: state {state.tolist()}, expected finite numbers")
        if self._earliest_stamp_ns is not None and stamp_ns < self._earliest_stamp_ns:
            return None
        if self.latest is not None:
            if stamp_ns < self.latest.stamp_ns:
                raise JointStatesRefused(
                    "time_backwards",
                    f"{self._topic}: stamp {stamp_ns} ns, expected at least the last one, {self.latest.stamp_ns} ns",
                )
            self._intervals.append(stamp_ns - self.latest.stamp_ns)
        self._delays.append(arrival_ns - stamp_ns)
        self.latest = Sample(state, stamp_ns, arrival_ns)
        return self.latest

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
