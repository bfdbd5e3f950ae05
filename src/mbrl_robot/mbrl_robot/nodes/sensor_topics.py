# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Imu and nav_msgs/Odometry as entries of the state, and readings of a simulation as these messages."""

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import Quaternion, Vector3
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Imu

from mbrl_core.estimation import ANGLES, AXES, Sensor
from mbrl_core.specs import Array
from mbrl_robot.sensor_states import SensorRefused, SensorStates, roll_pitch_yaw
from mbrl_robot.simulated_sensors import Reading
from mbrl_ros import qos
from mbrl_ros.health import Health
from mbrl_ros.steady import now_ns

CLASSES: dict[str, type[Any]] = {"imu": Imu, "odometry": Odometry}
# What an Imu message has in the first place of a covariance whose quantity it does not measure.
NOT_MEASURED = -1.0


def subscribe(node: Node, states: SensorStates, health: Health) -> None:
    """Takes every sensor's topic into `states`; what is refused is counted as sensor/NAME/REASON."""
    for sensor in states.sensors:
        node.create_subscription(
            CLASSES[sensor.kind],
            sensor.topic,
            _taker(sensor, states, health),
            qos.JOINT_STATES,
            event_callbacks=qos.QUIET_SUBSCRIPTION,
        )


def _taker(sensor: Sensor, states: SensorStates, health: Health) -> Callable[[Any], None]:
    def take(message: Any) -> None:
        try:
            values = values_of(sensor, message)
            states.take(sensor, values, Time.from_msg(message.header.stamp).nanoseconds, now_ns())
        except SensorRefused as error:
            health.refuse(f"sensor/{sensor.name}/{error.reason}", str(error))

    return take


def values_of(sensor: Sensor, message: Any) -> dict[str, float]:
    """By entry, SI units. Raises SensorRefused: no_orientation, not_measured."""
    values: dict[str, float] = {}
    if sensor.kind == "imu":
        _check_measured(sensor, message)
        orientation = message.orientation
        vectors = {name: getattr(message, name) for name in ("angular_velocity", "linear_acceleration")}
    else:
        pose, twist = message.pose.pose, message.twist.twist
        orientation = pose.orientation
        vectors = {"linear_velocity": twist.linear, "angular_velocity": twist.angular}
        values.update({axis: float(getattr(pose.position, axis)) for axis in AXES})
    if set(sensor.entries) & set(ANGLES):
        values.update(roll_pitch_yaw(sensor.topic, orientation.w, orientation.x, orientation.y, orientation.z))
    for name, vector in vectors.items():
        values.update({f"{name}_{axis}": float(getattr(vector, axis)) for axis in AXES})
    return values


def _check_measured(sensor: Sensor, message: Imu) -> None:
    for quantity in ("orientation", "angular_velocity", "linear_acceleration"):
        wanted = [name for name in sensor.entries if name.startswith(quantity) or (
            quantity == "orientation" and name in ANGLES
        )]  # fmt: skip
        if wanted and getattr(message, f"{quantity}_covariance")[0] == NOT_MEASURED:
            raise SensorRefused(
                "not_measured", f"{sensor.topic}: {quantity}_covariance[0] is -1: it measures no {wanted[0]}"
            )


class SensorPublishers:
    """Publishes what a simulation reads."""

    def __init__(self, node: Node, sensors: tuple[Sensor, ...]) -> None:
        self._publishers = {
            sensor.name: node.create_publisher(
                CLASSES[sensor.kind], sensor.topic, qos.JOINT_STATES, event_callbacks=qos.QUIET_PUBLISHER
            )
            for sensor in sensors
        }

    def publish(self, readings: list[Reading], stamp_ns: int) -> None:
        """One message for each sensor, all of the same stamp."""
        for reading in readings:
            message = _imu(reading) if reading.sensor.kind == "imu" else _odometry(reading)
            message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
            self._publishers[reading.sensor.name].publish(message)


def _imu(reading: Reading) -> Imu:
    assert reading.linear_acceleration is not None
    message = Imu(
        orientation=_quaternion(reading.orientation),
        angular_velocity=_vector(reading.angular_velocity),
        linear_acceleration=_vector(reading.linear_acceleration),
    )
    message.header.frame_id = reading.sensor.site
    return message


def _odometry(reading: Reading) -> Odometry:
    assert reading.position is not None and reading.linear_velocity is not None
    message = Odometry(child_frame_id=reading.sensor.site)
    message.header.frame_id = "world"
    position = message.pose.pose.position
    position.x, position.y, position.z = (float(part) for part in reading.position)
    message.pose.pose.orientation = _quaternion(reading.orientation)
    message.twist.twist.linear = _vector(reading.linear_velocity)
    message.twist.twist.angular = _vector(reading.angular_velocity)
    return message


def _quaternion(values: Array) -> Quaternion:
    w, x, y, z = (float(value) for value in values)
    return Quaternion(w=w, x=x, y=y, z=z)


def _vector(values: Array) -> Vector3:
    x, y, z = (float(value) for value in values)
    return Vector3(x=x, y=y, z=z)
