# SPDX-License-Identifier: Apache-2.0
"""Specs, their hashes, and robot files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.random_streams import generator
from mbrl_core.robot_file import load_robot, start_state
from mbrl_core.specs import SpecError, state_difference, wrap_angles

ROBOT = """
name: test
control: {period: 0.05, command_offset: 0.01, chain: [planner, policy]}
joints:
  - {name: slider, kind: linear, position_limits: [-1.0, 1.0], velocity_limit: 4.0}
  - {name: hinge, kind: angular}
actions:
  - {joint: slider, interface: effort, limits: [-3.0, 3.0], scale: 100.0}
start:
  position: {mean: [0.0, 1.0], std: [0.1, 0.0]}
"""
CONFIG = Path(__file__).resolve().parents[3] / "config"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "test.yaml"
    path.write_text(text)
    return path


def test_a_robot_file_gives_positions_then_velocities(tmp_path: Path) -> None:
    robot = load_robot(write(tmp_path, ROBOT))
    state = robot.spec.state
    assert state.names == ("slider_position", "hinge_position", "slider_velocity", "hinge_velocity")
    assert state.kinds == ("linear", "angular", "linear", "linear")
    assert state.units == ("m", "rad", "m/s", "rad/s")
    assert state.upper == (1.0, np.inf, 4.0, np.inf)
    assert robot.spec.action.units == ("N",) and robot.spec.action.scale == (100.0,)
    assert robot.action_joints == (0,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "joint: slider, interface",
            "joint: slidr, interface",
            "action joint: got 'slidr', expected one of slider, hinge",
        ),
        ("kind: angular", "kind: round", "kind: got 'round'"),
        ("period: 0.05", "period: 0.0", "period: got 0.0"),
        ("command_offset: 0.01", "command_offset: 0.05", "command_offset"),
        ("limits: [-3.0, 3.0]", "limits: [3.0, -3.0]", "lower < upper"),
        ("interface: effort", "interface: torque", "'torque'"),
        ("std: [0.1, 0.0]", "std: [0.1]", "start.position.std: got 1 entries, expected 2"),
        ("name: hinge", "name: slider", "no name twice"),
        ("name: test", "nam: test", "unknown key 'nam'"),
        ("control: {period: 0.05,", "control: {perod: 0.05,", "unknown key 'perod'|'period'"),
    ],
)
def test_a_bad_robot_file_is_refused_by_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ROBOT
    with pytest.raises(SpecError, match=message):
        load_robot(write(tmp_path, ROBOT.replace(old, new)))


def test_an_unknown_robot_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path, ROBOT)
    with pytest.raises(FileNotFoundError, match="unknown robot 'rocket'.*robots beside it: test"):
        load_robot(tmp_path / "rocket.yaml")


def test_the_interface_hash_sees_names_and_period_but_not_limits(tmp_path: Path) -> None:
    base = load_robot(write(tmp_path, ROBOT)).spec
    slower = load_robot(write(tmp_path, ROBOT.replace("0.05", "0.06"))).spec
    renamed = load_robot(write(tmp_path, ROBOT.replace("hinge", "axle"))).spec
    weaker = load_robot(write(tmp_path, ROBOT.replace("[-3.0, 3.0]", "[-2.0, 2.0]"))).spec
    assert len({base.interface_hash, slower.interface_hash, renamed.interface_hash}) == 3
    assert weaker.interface_hash == base.interface_hash
    assert weaker.description_hash != base.description_hash


@pytest.mark.parametrize("path", sorted((CONFIG / "robots").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_robot_loads(path: Path) -> None:
    robot = load_robot(path)
    assert robot.spec.name == path.stem
    assert robot.mjcf is not None and robot.mjcf.is_file()
    assert (CONFIG / "tasks" / f"{robot.task}.yaml").is_file()
    assert np.isfinite(start_state(robot, generator(0, 1, 0, "start"))).all()


def test_angles_wrap_and_other_states_do_not() -> None:
    angular = np.array([False, True])
    np.testing.assert_allclose(wrap_angles(np.array([10.0, 3.0 * np.pi]), angular), [10.0, -np.pi])
    np.testing.assert_allclose(
        state_difference(np.array([9.0, 3.1]), np.array([1.0, -3.1]), angular), [8.0, 6.2 - 2 * np.pi]
    )


def test_random_streams_do_not_depend_on_each_other() -> None:
    first = generator(1, 2, 3, "planner").standard_normal(4)
    generator(1, 2, 3, "explore").standard_normal(1000)
    np.testing.assert_array_equal(first, generator(1, 2, 3, "planner").standard_normal(4))
    others = [
        generator(*key).standard_normal(4)
        for key in ((2, 2, 3, "planner"), (1, 3, 3, "planner"), (1, 2, 4, "planner"), (1, 2, 3, "explore"))
    ]
    assert all(not np.array_equal(first, other) for other in others)


def test_a_spec_cannot_be_made_inconsistent(tmp_path: Path) -> None:
    spec = load_robot(write(tmp_path, ROBOT)).spec
    with pytest.raises(SpecError, match="state units: got 3 entries, expected 4"):
        dataclasses.replace(spec.state, units=("m", "rad", "m/s"))
    with pytest.raises(SpecError, match="finite limits"):
        dataclasses.replace(spec.action, upper=(np.inf,))
