# SPDX-License-Identifier: Apache-2.0
"""A launch file whose packages are absent fails before anything starts, and says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in_packages import PROGRAMS, make_prefix

from mbrl_bringup.launch_runner.debian import DEBIAN_PACKAGES, REMARKS, advice
from mbrl_bringup.launch_runner.expand import expand
from mbrl_bringup.launch_runner.packages import PackageError, prefix_of
from mbrl_bringup.launch_runner.require import missing
from mbrl_bringup.launch_runner.source import LaunchFileError

ROOT = Path(__file__).resolve().parents[3]
GAZEBO = ROOT / "launch" / "gazebo.launch.yaml"
COMMAND = [sys.executable, "-c", "import sys; from mbrl_bringup.cli import main; sys.exit(main(sys.argv[1:]))"]


def is_here(package: str) -> bool:
    return not missing([package])


def test_advice_names_the_debian_packages_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    said = advice(["ros_gz_sim", "ros_gz_bridge", "xacro", "of_nobody"])
    assert "`sudo apt install ros-jazzy-ros-gz ros-jazzy-xacro`" in said
    assert "Harmonic with ROS 2 Jazzy, Ionic with Kilted" in said
    assert advice(["of_nobody"]) == ""
    monkeypatch.delenv("ROS_DISTRO")
    assert "ros-$ROS_DISTRO-joy" in advice(["joy"])


def test_every_package_that_launch_files_need_is_known() -> None:
    assert set(PROGRAMS) <= set(DEBIAN_PACKAGES)
    assert set(DEBIAN_PACKAGES.values()) == set(REMARKS)


@pytest.mark.parametrize("package", [name for name in DEBIAN_PACKAGES if not is_here(name)])
def test_a_missing_package_is_named_with_what_to_install(package: str) -> None:
    with pytest.raises(PackageError, match=rf"'{package}' is in none .*apt install ros-.*-{DEBIAN_PACKAGES[package]}`"):
        prefix_of(package)


@pytest.mark.skipif(is_here("ros_gz_sim"), reason="Gazebo is installed")
@pytest.mark.parametrize("path", ["ros2_control", "bridge"])
def test_gazebo_without_gazebo_names_everything_at_once(path: str, tmp_path: Path) -> None:
    with pytest.raises(LaunchFileError) as refusal:
        expand(GAZEBO, {"path": path}, tmp_path)
    said = str(refusal.value)
    assert said.startswith(f"{GAZEBO}:")
    assert "not installed: ros_gz_sim, ros_gz_bridge, ros_gz_interfaces" in said
    assert ("gz_ros2_control, controller_manager" in said) == (path == "ros2_control")
    assert "apt install ros-" in said and "Harmonic" in said


@pytest.mark.skipif(is_here("ros_gz_sim"), reason="Gazebo is installed")
@pytest.mark.parametrize("file", ["mbrl.launch.yaml", "record.launch.yaml"])
def test_nothing_is_started_without_gazebo(file: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = subprocess.run(
        [*COMMAND, "launch", file, "backend:=gazebo", f"run_directory:={run}"],
        capture_output=True,
        text=True,
        env={**os.environ, "MBRL_ROOT": str(tmp_path)},
        timeout=60.0,
        check=False,
    )
    assert result.returncode == 1
    assert "not installed: ros_gz_sim" in result.stderr and "Traceback" not in result.stderr
    assert not run.exists(), "a launch that starts keeps a log"


@pytest.mark.skipif(is_here("controller_manager"), reason="ros2_control is installed")
def test_hardware_without_ros2_control_names_everything_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        LaunchFileError, match=r"not installed: controller_manager, joint_state_.*apt install ros-.*-ros2-"
    ):
        expand(ROOT / "launch" / "hardware.launch.yaml", {}, tmp_path)


def test_one_package_that_is_missing_is_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in make_prefix(tmp_path / "prefix").items():
        monkeypatch.setenv(name, value)
    assert expand(GAZEBO, {}, tmp_path).nodes
    (tmp_path / "prefix/share/ament_index/resource_index/packages/xacro").unlink()
    if is_here("xacro"):
        pytest.skip("xacro is installed elsewhere")
    with pytest.raises(LaunchFileError, match=r"not installed: xacro\. .*-xacro`"):
        expand(GAZEBO, {}, tmp_path)
    assert expand(GAZEBO, {"path": "bridge"}, tmp_path).nodes
