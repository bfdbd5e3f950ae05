# SPDX-License-Identifier: Apache-2.0
"""Entries of the state that sensors give: values of messages in the order of the robot file, fresh or refused."""

from collections.abc import Mapping

import numpy as np

from mbrl_core.estimation import Sensor
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array

# Of the norm of a quaternion. A message that was never filled in has a norm of zero.
LARGEST_DEVIATION = 1e-2


class SensorRefused(ValueError):
    """A message of a sensor is refused. `reason` is a short kind, the text says what came and what was expected."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class SensorStates:
    """Keeps the newest valid values of each sensor. Stamps are the source's, arrivals steady, both in nanoseconds."""

    def __init__(self, robot: Robot, timeout_ns: int) -> None:
        self.sensors = robot.estimation.sensors
        self._timeout_ns = timeout_ns
        self._newest: dict[str, tuple[Array, int, int]] = {}
        self._earliest_stamp_ns: int | None = None

    def restart(self, stamp_ns: int) -> None:
        """Only stamps from `stamp_ns` on count from now on, even if they are older than before."""
        self._newest.clear()
        self._earliest_stamp_ns = stamp_ns

    def take(self, sensor: Sensor, values: Mapping[str, float], stamp_ns: int, arrival_ns: int) -> None:
        """Takes the values of a message by entry. Raises SensorRefused: non_finite, time_backwards."""
        chosen = np.array([values[entry] for entry in sensor.entries], dtype=np.float64)
        if not np.isfinite(chosen).all():
            raise SensorRefused(
                "non_finite", f"{sensor.topic}: {', '.join(sensor.entries)} {chosen.tolist()}, expected finite numbers"
            )
        if self._earliest_stamp_ns is not None and stamp_ns < self._earliest_stamp_ns:
            return
        before = self._newest.get(sensor.name)
        if before is not None and stamp_ns < before[1]:
            raise SensorRefused(
                "time_backwards", f"{sensor.topic}: stamp {stamp_ns} ns, expected at least the last one, {before[1]} ns"
            )
        self._newest[sensor.name] = (chosen, stamp_ns, arrival_ns)

    def values(self, arrival_ns: int) -> Array:
        """All entries in the order of the state, at the steady time `arrival_ns`.

        Raises SensorRefused (stale) when a sensor has said nothing for too long.
        """
        parts = []
        for sensor in self.sensors:
            newest = self._newest.get(sensor.name)
            if newest is None or arrival_ns - newest[2] > self._timeout_ns:
                came = "nothing" if newest is None else f"the newest {(arrival_ns - newest[2]) * 1e-9:.3f} s ago"
                raise SensorRefused(
                    "stale", f"{sensor.topic}: {came}, expected messages at most {self._timeout_ns * 1e-9:g} s apart"
                )
            parts.append(newest[0])
        return np.concatenate(parts) if parts else np.zeros(0)


def roll_pitch_yaw(topic: str, w: float, x: float, y: float, z: float) -> dict[str, float]:
    """Angles in rad of a unit quaternion: rotations about the fixed axes x, then y, then z, as in URDF (REP 103).

    Raises SensorRefused (no_orientation) when it is none.
    """
    norm = float(np.sqrt(w * w + x * x + y * y + z * z))
    if not abs(norm - 1.0) <= LARGEST_DEVIATION:
        raise SensorRefused("no_orientation", f"{topic}: orientation of norm {norm:g}, expected a quaternion of norm 1")
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    return {
        "roll": float(np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))),
        "pitch": float(np.arcsin(np.clip(2.0 * (w * y - z * x), -1.0, 1.0))),
        "yaw": float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))),
    }
