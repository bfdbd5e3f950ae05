# SPDX-License-Identifier: Apache-2.0
"""URDF and SDF of every robot move in DART, the physics of Gazebo, as the MJCF does in MuJoCo."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from shipped_robots import FOLDERS, MOVED, WORLD, compiled

from mbrl_core.robot_description.dart import (
    DURATION,
    GAZEBO_STEP,
    MISSING,
    SYSTEM_PYTHON,
    available,
    compare_in_dart,
    in_mujoco,
    motions_of,
)
from mbrl_core.robot_description.tree import DescriptionError

needs_dart = pytest.mark.skipif(not available(), reason=MISSING.format(python=SYSTEM_PYTHON))
# Of the range of each state variable: docs/robots.md states them.
EXTRAPOLATED = {"acrobot": 1e-6, "arm": 2e-4, "cartpole": 1e-8, "pendulum": 1e-9, "reacher": 1e-9}
TOLERANCE = {"acrobot": 5e-5, "arm": 1e-3, "cartpole": 5e-6, "pendulum": 1e-6, "reacher": 1e-6}
AT_GAZEBO_STEP = {"acrobot": 0.03, "arm": 0.1, "cartpole": 0.01, "pendulum": 0.005, "reacher": 0.005}


@needs_dart
@pytest.mark.parametrize("form", ["urdf", "sdf"])
@pytest.mark.parametrize("name", MOVED)
def test_motion_is_that_of_mujoco(name: str, form: str) -> None:
    report = compare_in_dart(compiled(name), (FOLDERS.urdf if form == "urdf" else FOLDERS.sdf)(name))
    assert not report.message()
    assert report.dynamics < 1e-12
    assert [motion.motion for motion in report.motions] == ["passive", "forced"]
    for motion in report.motions:
        assert motion.difference < EXTRAPOLATED[name]
        assert motion.tolerance < TOLERANCE[name], "a tolerance that would let anything pass"
        assert motion.at_gazebo_step < AT_GAZEBO_STEP[name]


@needs_dart
@pytest.mark.parametrize("form", ["urdf", "sdf"])
@pytest.mark.parametrize("name", MOVED)
def test_a_wrong_damping_shows_in_the_motion(tmp_path: Path, name: str, form: str) -> None:
    """Mass matrix and gravity know nothing of it."""
    source = (FOLDERS.urdf if form == "urdf" else FOLDERS.sdf)(name)
    tree = ElementTree.parse(source)
    dynamics = tree.getroot().findall(".//dynamics")[-1]
    if form == "urdf":
        dynamics.set("damping", repr(1.001 * float(dynamics.attrib["damping"])))
    else:
        damping = dynamics[0]
        damping.text = repr(1.001 * float(damping.text or "nan"))
    tree.write(tmp_path / source.name)
    report = compare_in_dart(compiled(name), tmp_path / source.name)
    assert report.dynamics < 1e-12
    assert f"{tmp_path / source.name}: passive motion in DART: " in report.message()


@needs_dart
def test_a_wrong_mass_shows_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cartpole.urdf"
    path.write_text(FOLDERS.urdf("cartpole").read_text().replace('<mass value="5.01', '<mass value="5.02'))
    assert "cartpole.urdf: mass matrix or gravity in DART: " in compare_in_dart(compiled("cartpole"), path).message()


@needs_dart
def test_what_dart_does_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cartpole.sdf"
    text = FOLDERS.sdf("cartpole").read_text()
    path.write_text(text.replace("<pose>0 0 -0.3 0 0 0</pose>", '<pose relative_to="pole">0 0 -0.3 0 0 0</pose>'))
    with pytest.raises(DescriptionError, match="cartpole.sdf.*relative_to"):
        compare_in_dart(compiled("cartpole"), path)
    path = tmp_path / "cartpole.urdf"
    path.write_text(FOLDERS.urdf("cartpole").read_text().replace('"hinge"', '"pivot"'))
    with pytest.raises(DescriptionError, match="DART finds joints"):
        compare_in_dart(compiled("cartpole"), path)


@pytest.mark.parametrize("name", MOVED)
def test_motions_are_large(name: str) -> None:
    robot = compiled(name)
    passive, forced = motions_of(robot)
    assert not passive.efforts.any() and forced.efforts.any()
    for motion in (passive, forced):
        assert len(motion.efforts) == round(DURATION / robot.robot.spec.period)
        states = in_mujoco(robot, motion, 8)
        assert np.ptp(states, axis=0).min() > 0.1


def test_the_step_is_that_of_the_world() -> None:
    step = ElementTree.parse(WORLD).getroot().findtext("world/physics/max_step_size", "nan")
    assert float(step) == GAZEBO_STEP


def test_without_dartpy_it_says_what_to_install(tmp_path: Path) -> None:
    python = tmp_path / "python"
    with pytest.raises(DescriptionError, match="apt-get install python3-dartpy python3-numpy"):
        compare_in_dart(compiled("pendulum"), FOLDERS.urdf("pendulum"), str(python))
