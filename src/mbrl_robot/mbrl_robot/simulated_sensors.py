# SPDX-License-Identifier: Apache-2.0
"""What the sensors of a robot file would say in a MuJoCo simulation: readings of MJCF sensors at a named site.

An imu needs framequat, gyro and accelerometer of the site; odometry framepos, framequat, framelinvel and frameangvel.
Orientation and position are those of the site in the world. An accelerometer feels gravity, as a real one does. A twist
is in the frame of the site, as nav_msgs/Odometry has it.
"""

from dataclasses import dataclass

import mujoco
import numpy as np

from mbrl_core.estimation import AXES, Sensor
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, SpecError
from mbrl_robot.sensor_states import roll_pitch_yaw

_TYPES = {
    "imu": {
        "framequat": mujoco.mjtSensor.mjSENS_FRAMEQUAT,
        "gyro": mujoco.mjtSensor.mjSENS_GYRO,
        "accelerometer": mujoco.mjtSensor.mjSENS_ACCELEROMETER,
    },
    "odometry": {
        "framepos": mujoco.mjtSensor.mjSENS_FRAMEPOS,
        "framequat": mujoco.mjtSensor.mjSENS_FRAMEQUAT,
        "framelinvel": mujoco.mjtSensor.mjSENS_FRAMELINVEL,
        "frameangvel": mujoco.mjtSensor.mjSENS_FRAMEANGVEL,
    },
}


@dataclass(frozen=True)
class Reading:
    """What one sensor measures: quaternion [4] as w, x, y, z; vectors [3] in the units of the messages.

    `position` and `linear_velocity` are odometry's, `linear_acceleration` is an imu's.
    """

    sensor: Sensor
    orientation: Array
    angular_velocity: Array
    linear_acceleration: Array | None = None
    position: Array | None = None
    linear_velocity: Array | None = None

    def values(self) -> dict[str, float]:
        """By entry of the robot file."""
        found = roll_pitch_yaw(self.sensor.topic, *(float(part) for part in self.orientation))
        for name in ("angular_velocity", "linear_velocity", "linear_acceleration"):
            vector = getattr(self, name)
            if vector is not None:
                found.update({f"{name}_{axis}": float(part) for axis, part in zip(AXES, vector, strict=True)})
        if self.position is not None:
            found.update({axis: float(part) for axis, part in zip(AXES, self.position, strict=True)})
        return found


class SimulatedSensors:
    """Reads them off a simulation without touching it. Raises SpecError where the MJCF lacks a site or a sensor."""

    def __init__(self, robot: Robot, model: mujoco.MjModel) -> None:
        self._model = model
        self._scratch = mujoco.MjData(model)
        self._addresses = [(sensor, _addresses(robot, model, sensor)) for sensor in robot.estimation.sensors]

    def readings(self, data: mujoco.MjData) -> list[Reading]:
        """One for each sensor of the robot file, at the present state of `data`."""
        if not self._addresses:
            return []
        # A step leaves the readings of its beginning, and computing others would change what the solver starts from.
        mujoco.mj_copyData(self._scratch, self._model, data)
        mujoco.mj_forward(self._model, self._scratch)
        return [self._reading(sensor, addresses) for sensor, addresses in self._addresses]

    def values(self, data: mujoco.MjData) -> Array:
        """All entries in the order of the state."""
        parts = []
        for reading in self.readings(data):
            values = reading.values()
            parts.append(np.array([values[entry] for entry in reading.sensor.entries]))
        return np.concatenate(parts) if parts else np.zeros(0)

    def _reading(self, sensor: Sensor, addresses: dict[str, int]) -> Reading:
        def vector(name: str, size: int = 3) -> Array:
            return np.array(self._scratch.sensordata[addresses[name] : addresses[name] + size])

        orientation = vector("framequat", 4)
        if sensor.kind == "imu":
            return Reading(sensor, orientation, vector("gyro"), linear_acceleration=vector("accelerometer"))
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, orientation)
        to_site = turn.reshape(3, 3).T
        return Reading(
            sensor,
            orientation,
            to_site @ vector("frameangvel"),
            position=vector("framepos"),
            linear_velocity=to_site @ vector("framelinvel"),
        )


def _addresses(robot: Robot, model: mujoco.MjModel, sensor: Sensor) -> dict[str, int]:
    where = f"{robot.mjcf}: sensor {sensor.name!r}"
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, sensor.site) if sensor.site else -1
    if site < 0:
        known = ", ".join(model.site(index).name for index in range(model.nsite)) or "none"
        raise SpecError(f"{where} site: got {sensor.site!r}, expected one of {known}")
    found = {}
    for name, kind in _TYPES[sensor.kind].items():
        at = [
            index
            for index in range(model.nsensor)
            if int(model.sensor_type[index]) == int(kind)
            and int(model.sensor_objtype[index]) == int(mujoco.mjtObj.mjOBJ_SITE)
            and model.sensor_objid[index] == site
            and model.sensor_refid[index] < 0
        ]
        if not at:
            raise SpecError(f"{where}: no <{name}> at site {sensor.site!r}, expected one")
        found[name] = int(model.sensor_adr[at[0]])
    return found
