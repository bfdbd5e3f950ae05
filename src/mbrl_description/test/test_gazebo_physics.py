# SPDX-License-Identifier: Apache-2.0
"""The SDF moves in Gazebo's own physics (sdformat, gz-physics, DART) as the MJCF does in MuJoCo."""

import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from shipped_robots import FOLDERS, IN_GAZEBO, MOVED, WORLD, compiled

from mbrl_core.robot_description.dart import STEPS, Motion, motions_of, report_of

LIBRARIES = ("ignition-physics5", "ignition-physics5-sdf", "ignition-plugin1-loader", "sdformat12")
PLUGIN = "engine-plugins/libignition-physics-dartsim-plugin.so"
INSTALL = "Debian: libignition-physics-dev libignition-physics-sdf-dev libignition-physics5-dartsim-plugin5"


def pkg_config(*arguments: str) -> list[str]:
    done = subprocess.run(["pkg-config", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.split()


def plugin() -> Path | None:
    """Gazebo's DART; None where something of what is needed is missing."""
    if shutil.which("g++") is None or shutil.which("pkg-config") is None:
        return None
    if subprocess.run(["pkg-config", "--exists", *LIBRARIES], check=False).returncode:
        return None
    found = Path(pkg_config("--variable=libdir", LIBRARIES[0])[0]) / "ign-physics-5" / PLUGIN
    return found if found.is_file() else None


pytestmark = pytest.mark.skipif(plugin() is None, reason=f"gz-physics is missing ({INSTALL})")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("gazebo_physics") / "gazebo_physics"
    source = Path(__file__).with_name("gazebo_physics.cpp")
    flags = pkg_config("--cflags", "--libs", *LIBRARIES)
    subprocess.run(["g++", "-std=c++17", str(source), "-o", str(built), *flags], check=True, capture_output=True)
    return built


def world_with(name: str, folder: Path) -> Path:
    """Our world with the robot in it, as the node that spawns it would have it, without joint limits."""
    tree = ElementTree.parse(WORLD)
    model = ElementTree.parse(FOLDERS.sdf(name)).getroot().find("model")
    world = tree.getroot().find("world")
    assert model is not None and world is not None
    for limit in model.iter("limit"):
        # Simulators differ in how limits yield.
        for end in [child for child in limit if child.tag in ("lower", "upper")]:
            limit.remove(end)
    world.append(model)
    path = folder / f"{name}.world.sdf"
    tree.write(path)
    return path


def in_gazebo(program: Path, world: Path, name: str, motion: Motion, step: float) -> NDArray[np.float64]:
    """States [control periods, 2 joints]."""
    robot = compiled(name).robot
    command = [
        str(program), str(plugin()), str(world), name, str(round(step * 1e9)), str(round(robot.spec.period / step)),
        str(len(motion.efforts)), *(joint.name for joint in robot.joints),
    ]  # fmt: skip
    numbers = [*motion.positions, *motion.velocities, *motion.efforts.ravel()]
    done = subprocess.run(
        command,
        input=" ".join(repr(float(number)) for number in numbers),
        capture_output=True,
        text=True,
        check=False,
        # Its console writes a log there, and crashes where there is no home.
        env={"HOME": str(world.parent), "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    return np.array([[float(number) for number in line.split()] for line in done.stdout.strip().splitlines()])


@pytest.mark.parametrize("name", [name for name in IN_GAZEBO if name in MOVED])
def test_motion_in_gazebo_is_that_of_mujoco(program: Path, tmp_path: Path, name: str) -> None:
    world = world_with(name, tmp_path)
    for motion in motions_of(compiled(name)):
        runs = [in_gazebo(program, world, name, motion, step) for step in STEPS]
        report = report_of(compiled(name), motion, runs)
        assert report.excess <= 1.0, report
        assert report.tolerance < 1e-3, report


def test_what_is_kept_from_gazebo_would_move_otherwise(program: Path, tmp_path: Path) -> None:
    world = world_with("reacher", tmp_path)
    passive = motions_of(compiled("reacher"))[0]
    report = report_of(
        compiled("reacher"), passive, [in_gazebo(program, world, "reacher", passive, step) for step in STEPS]
    )
    assert report.excess > 100.0 and report.difference > 0.5
