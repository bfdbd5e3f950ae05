# SPDX-License-Identifier: Apache-2.0
"""Imu and Odometry as entries of the state: in a simulation against what they have to be, and as messages."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion
from nav_msgs.msg import Odometry
from sensed_robot import ENTRIES, sensed_robot
from sensor_msgs.msg import Imu

from mbrl_core.estimation import Sensor
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import SpecError
from mbrl_robot.nodes.sensor_topics import values_of
from mbrl_robot.sensor_states import SensorRefused, SensorStates, roll_pitch_yaw
from mbrl_robot.simulation import MujocoSimulation
from mbrl_robot.state_estimation import JointStatesRefused, StateEstimator

GRAVITY = 9.81


def test_sensors_in_a_simulation_are_what_the_geometry_says(tmp_path: Path) -> None:
    simulation = MujocoSimulation(load_robot(sensed_robot(tmp_path)))
    x, turn, speed, rate = 0.3, 0.4, 0.5, -1.2
    state = simulation.reset(np.array([x, turn, speed, rate]))
    found = dict(zip(ENTRIES, state[4:], strict=True))
    # The site is 0.5 m below the cart, turned with the pole about +y.
    assert found["pitch"] == pytest.approx(turn)
    assert found["angular_velocity_y"] == pytest.approx(rate)
    assert (found["x"], found["z"]) == pytest.approx((x - 0.5 * math.sin(turn), 1.0 - 0.5 * math.cos(turn)))
    # Of the site, in the axes of the site: along x it moves with the cart, and opposite to the turn.
    assert found["linear_velocity_x"] == pytest.approx(speed * math.cos(turn) - 0.5 * rate)
    assert found["linear_velocity_z"] == pytest.approx(speed * math.sin(turn))


def test_an_accelerometer_at_rest_feels_what_holds_it_up(tmp_path: Path) -> None:
    simulation = MujocoSimulation(load_robot(sensed_robot(tmp_path)))
    simulation.reset(np.zeros(4))
    values = simulation.readings()[0].values()
    assert [values[f"linear_acceleration_{axis}"] for axis in "xyz"] == pytest.approx([0.0, 0.0, GRAVITY], abs=1e-9)


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = sensed_robot(tmp_path)
    plain = path.with_name("plain.yaml")
    plain.write_text(path.read_text().split("estimation:")[0])
    first, second = MujocoSimulation(load_robot(path)), MujocoSimulation(load_robot(plain))
    start = np.array([0.0, 1.0, 0.2, -2.0])
    first.reset(start), second.reset(start)
    for action in np.random.default_rng(0).uniform(-1.0, 1.0, (30, 1)):
        assert first.step(action)[:4].tobytes() == second.step(action).tobytes()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("site: tip", "site: top", "sensor 'tip' site: got 'top', expected one of tip"),
        ("<gyro", "<velocimeter", "sensor 'tip': no <gyro> at site 'tip'"),
    ],
)
def test_what_the_mjcf_lacks_is_named(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = sensed_robot(tmp_path)
    for file in (path, path.with_suffix(".xml")):
        file.write_text(file.read_text().replace(old, new))
    with pytest.raises(SpecError, match=text):
        MujocoSimulation(load_robot(path))


@pytest.mark.parametrize("angles", [(0.3, -0.4, 2.9), (-3.0, 1.2, -0.1), (0.0, 0.0, 0.0)])
def test_angles_of_a_quaternion(angles: tuple[float, float, float]) -> None:
    halves = np.array(angles) / 2.0
    (sr, sp, sy), (cr, cp, cy) = np.sin(halves), np.cos(halves)
    quaternion = (
        cr * cp * cy + sr * sp * sy, sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy,
    )  # fmt: skip
    for sign in (1.0, -1.0):
        found = roll_pitch_yaw("imu", *(float(sign * part) for part in quaternion))
        assert tuple(found.values()) == pytest.approx(angles)


def test_messages_become_entries() -> None:
    message = Odometry()
    message.pose.pose.orientation = Quaternion(w=math.cos(0.25), z=math.sin(0.25))
    message.pose.pose.position.y = 2.0
    message.twist.twist.linear.x, message.twist.twist.angular.z = 0.7, -0.2
    found = values_of(Sensor("base", "odometry", "odom", ("y", "yaw")), message)
    assert found["yaw"] == pytest.approx(0.5)
    assert (found["y"], found["linear_velocity_x"], found["angular_velocity_z"]) == (2.0, 0.7, -0.2)
    # Whoever asks for no angle does not mind an orientation that was never filled in.
    assert values_of(Sensor("imu", "imu", "imu", ("angular_velocity_x",)), Imu())["angular_velocity_x"] == 0.0


def test_messages_that_do_not_measure_it_are_refused() -> None:
    imu = Imu()
    imu.orientation = Quaternion(w=0.0)
    for entries, change, reason in (
        (("roll",), {}, "no_orientation"),
        (("roll",), {"orientation_covariance": -1.0}, "not_measured"),
        (("linear_acceleration_z",), {"linear_acceleration_covariance": -1.0}, "not_measured"),
    ):
        message: Any = Imu()
        message.orientation = Quaternion(w=0.0)
        for name, value in change.items():
            getattr(message, name)[0] = value
        with pytest.raises(SensorRefused) as refusal:
            values_of(Sensor("imu", "imu", "imu/data", entries), message)
        assert refusal.value.reason == reason and "imu/data" in str(refusal.value)


def test_joint_states_are_not_taken_without_fresh_sensors(tmp_path: Path) -> None:
    robot = load_robot(sensed_robot(tmp_path))
    sensors = SensorStates(robot, timeout_ns=100)
    estimator = StateEstimator(robot, sensors=sensors)
    imu, odometry = robot.estimation.sensors
    values = {entry: float(index) for index, entry in enumerate((*imu.entries, *odometry.entries))}

    def joints(stamp: int, arrival: int) -> Any:
        return estimator.update(["slide", "turn"], [1.0, 2.0], [3.0, 4.0], stamp, arrival)

    with pytest.raises(JointStatesRefused, match="not without tip/imu: nothing") as refusal:
        joints(1, 1)
    assert refusal.value.reason == "stale_sensor"
    sensors.take(imu, values, 1, 10)
    sensors.take(odometry, values, 1, 50)
    assert joints(2, 60).state == pytest.approx([1.0, 2.0, 0.0, 0.0, *values.values()])
    with pytest.raises(JointStatesRefused, match="tip/imu: the newest"):
        joints(3, 111)
    for stamp, spoilt, reason in ((0, values, "time_backwards"), (2, {**values, "pitch": math.nan}, "non_finite")):
        with pytest.raises(SensorRefused) as refused:
            sensors.take(imu, spoilt, stamp, 110)
        assert refused.value.reason == reason
    # After a reset only what is newer counts, of joints and of sensors.
    estimator.restart(5)
    sensors.take(imu, values, 4, 120)
    with pytest.raises(JointStatesRefused, match="tip/imu: nothing"):
        joints(6, 120)
