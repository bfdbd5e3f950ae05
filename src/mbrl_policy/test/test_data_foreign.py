# SPDX-License-Identifier: Apache-2.0
"""Bags of other recorders: joint states and commands become transitions, or are refused by name."""

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from mbrl_core.robot_file import Robot, load_robot
from mbrl_ros.bag_reading import BagError
from mbrl_ros.bag_transitions import read_any_transitions
from mbrl_ros.foreign_bag import read_foreign_transitions

TYPES = get_typestore(Stores.ROS2_HUMBLE)
MULTI_ARRAY = "std_msgs/msg/Float64MultiArray"
JOINT_STATE = "sensor_msgs/msg/JointState"
ROBOT_FILE = """
name: arm
control: {period: 0.05, command_topic: effort_controller/commands}
joints:
  - {name: shoulder, kind: angular}
  - {name: rail, kind: linear}
actions:
  - {joint: rail, interface: effort, limits: [-1.0, 1.0], scale: 10.0}
simulation: {command_timeout: 0.2}
"""
START_NS = 1_700_000_000_123_456_789


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    (tmp_path / "arm.yaml").write_text(ROBOT_FILE, encoding="utf-8")
    return load_robot(tmp_path / "arm.yaml")


def truth(times: np.ndarray) -> np.ndarray:
    """[shoulder, rail, their velocities]: smooth, the angle beyond a whole turn."""
    return np.stack([2.0 * times, np.sin(times), np.full_like(times, 2.0), np.cos(times)], axis=-1)


def write(
    path: Path,
    state_times: np.ndarray,
    command_times: np.ndarray,
    commands: np.ndarray,
    names: tuple[str, ...] = ("gripper", "rail", "shoulder"),
    wrap: bool = True,
    plugin: StoragePlugin = StoragePlugin.MCAP,
) -> Path:
    header = TYPES.types["std_msgs/msg/Header"](TYPES.types["builtin_interfaces/msg/Time"](0, 0), "")
    layout = TYPES.types["std_msgs/msg/MultiArrayLayout"]([], 0)
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        state_topic = writer.add_connection("/lab/joint_states", JOINT_STATE, typestore=TYPES)
        command_topic = writer.add_connection("/lab/effort_controller/commands", MULTI_ARRAY, typestore=TYPES)
        messages = []
        for time, state in zip(state_times, truth(state_times), strict=True):
            angle = (state[0] + np.pi) % (2 * np.pi) - np.pi if wrap else state[0]
            columns = {"shoulder": (angle, state[2]), "rail": (state[1], state[3]), "gripper": (9.0, 9.0)}
            values = np.array([columns.get(name, (0.0, 0.0)) for name in names])
            message = TYPES.types[JOINT_STATE](
                header, list(names), values[:, 0].copy(), values[:, 1].copy(), np.zeros(0)
            )
            messages.append((time, state_topic, message))
        for time, command in zip(command_times, commands, strict=True):
            data = np.atleast_1d(np.asarray(command, dtype=np.float64))
            messages.append((time, command_topic, TYPES.types[MULTI_ARRAY](layout, data)))
        for time, connection, message in sorted(messages, key=lambda item: item[0]):
            content = TYPES.serialize_cdr(message, connection.msgtype)
            writer.write(connection, START_NS + round(1e9 * time), content)
    return path


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_states_and_commands_are_brought_to_the_control_period(
    tmp_path: Path, robot: Robot, plugin: StoragePlugin
) -> None:
    command_times = 0.313 + 0.05 * np.arange(40)
    commands = 10.0 * np.sin(np.arange(40))
    path = write(tmp_path / "bag", np.arange(0.0, 3.0, 0.002), command_times, commands, plugin=plugin)
    found = read_foreign_transitions(path, robot)
    # From the first command until the time-out after the last, in phase with the commands.
    assert len(found) == 40 + 3
    np.testing.assert_allclose(found.action[:40, 0], commands / 10.0, atol=1e-6)
    np.testing.assert_allclose(found.action[40:, 0], commands[-1] / 10.0, atol=1e-6)
    expected = truth(0.313 + 0.05 * np.arange(44))
    difference = found.state - expected[:-1]
    difference[:, 0] = (difference[:, 0] + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(difference, 0.0, atol=1e-5)
    assert found.step.tolist() == list(range(43)) and set(found.episode.tolist()) == {1}
    np.testing.assert_array_equal(found.state[1:], found.next_state[:-1])


def test_a_command_within_an_interval_counts_by_its_time(tmp_path: Path, robot: Robot) -> None:
    # At the ticks 0, and in the middle of the interval +10: the phase is that of most commands.
    times = np.sort(np.append(0.05 * np.arange(20), 0.525))
    commands = np.where(np.isclose(times, 0.525), 10.0, 0.0)
    found = read_foreign_transitions(write(tmp_path / "bag", np.arange(-0.1, 2.0, 0.005), times, commands), robot)
    expected = np.zeros(len(found))
    expected[10] = 0.5
    np.testing.assert_allclose(found.action[:, 0], expected, atol=0.05)
    assert found.action[:, 0].sum() == pytest.approx(0.5, abs=1e-6)


def test_gaps_are_gaps(tmp_path: Path, robot: Robot) -> None:
    states = np.concatenate([np.arange(0.0, 1.0, 0.01), np.arange(1.5, 2.5, 0.01), np.arange(2.5, 4.0, 0.01)])
    commands = np.concatenate([np.arange(0.0, 3.0, 0.05), np.arange(3.5, 4.0, 0.05)])
    found = read_foreign_transitions(write(tmp_path / "bag", states, commands, np.zeros(len(commands))), robot)
    lengths = [int((found.episode == number).sum()) for number in (1, 2, 3)]
    assert set(found.episode.tolist()) == {1, 2, 3}
    # States until 0.99; from 1.5 until 0.2 s after the command at 2.95; from 3.5 to the end.
    assert lengths == [19, 33, 9]
    speeds = (found.next_state[:, 1] - found.state[:, 1]) / 0.05
    np.testing.assert_allclose(speeds, 0.5 * (found.state[:, 3] + found.next_state[:, 3]), atol=1e-3)


def test_joints_are_told_apart_by_name(tmp_path: Path, robot: Robot) -> None:
    times = 0.05 * np.arange(20)
    path = write(tmp_path / "bag", times, times, np.zeros(20), names=("elbow", "rail"))
    with pytest.raises(
        BagError, match="expected joints shoulder, rail of robot 'arm', got elbow, rail; missing: should"
    ):
        read_foreign_transitions(path, robot)


@pytest.mark.parametrize(
    ("commands", "match"),
    [
        (np.full(20, 11.0), "commands of 'rail' from 11 to 11 N, expected -10 to 10"),
        (np.full(20, np.nan), "effort_controller/commands: expected finite"),
        (np.zeros((20, 2)), "2 numbers in a command, expected 1, one for each of rail"),
    ],
)
def test_wrong_commands_are_refused(tmp_path: Path, robot: Robot, commands: np.ndarray, match: str) -> None:
    times = 0.05 * np.arange(20)
    with pytest.raises(BagError, match=match):
        read_foreign_transitions(write(tmp_path / "bag", times, times, commands), robot)


def test_what_is_missing_is_named(tmp_path: Path, robot: Robot) -> None:
    times = 0.05 * np.arange(20)
    with pytest.raises(BagError, match="commands: expected commands, got no message"):
        read_foreign_transitions(write(tmp_path / "a", times, times[:0], times[:0]), robot)
    with pytest.raises(BagError, match="at the same time, .*got 20 joint states, typically 0.05 s apart"):
        read_foreign_transitions(write(tmp_path / "b", times, times + 100.0, times), robot)
    path = write(tmp_path / "c", times, times, times)
    with pytest.raises(BagError, match="got no robot file"):
        read_any_transitions(path, robot.spec)
    assert len(read_any_transitions(path, robot.spec, str(tmp_path / "arm.yaml"))) > 0
