# SPDX-License-Identifier: Apache-2.0
"""Every shipped robot is one robot in MJCF, URDF and SDF, and the formats' own tools accept it."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from shipped_robots import FOLDERS, IN_GAZEBO, PACKAGE, ROBOTS, WORLD, compiled

from mbrl_core.robot_description.check import CONFIGURATIONS, QUANTITIES, check
from mbrl_core.robot_description.export import files_of
from mbrl_core.robot_description.urdf_writer import OUT_OF_REACH

ERROR_LINE = re.compile(r"^(\x1b\[[0-9;]*m)*(Error|ERROR)\b", re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:e-?\d+)?(?![\w.])")
DESCRIPTIONS = [path(name) for name in ROBOTS for path in (FOLDERS.urdf, FOLDERS.sdf)]


@pytest.mark.parametrize("name", ROBOTS)
def test_committed_files_are_what_the_export_writes(name: str) -> None:
    for path, text in files_of(compiled(name), FOLDERS).items():
        committed = path.read_text()
        assert NUMBER.sub("#", committed) == NUMBER.sub("#", text), f"run `./mbrl robot export {name}`"
        # The last digit is the processor's and the compiler's.
        found, expected = ([float(part) for part in NUMBER.findall(content)] for content in (committed, text))
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-14), f"run `./mbrl robot export {name}`"


@pytest.mark.parametrize("path", DESCRIPTIONS, ids=lambda path: path.name)
def test_description_is_the_mjcf(path: Path) -> None:
    report = check(compiled(path.stem), path)
    assert report.first is None, report.message()
    for quantity in QUANTITIES:
        worst = report.worst(quantity)
        assert worst is not None and worst < 1e-13, quantity
    assert sum(finding.quantity == "mass matrix" for finding in report.findings) == CONFIGURATIONS


def test_no_file_is_left_over() -> None:
    expected = {path for name in ROBOTS for path in files_of(compiled(name), FOLDERS)}
    expected |= {WORLD, FOLDERS.gazebo / "clock_bridge.yaml"}
    found = {path for folder in (PACKAGE / "urdf", PACKAGE / "sdf", FOLDERS.gazebo) for path in folder.iterdir()}
    assert found == expected


@pytest.mark.parametrize("path", [*DESCRIPTIONS, WORLD], ids=lambda path: path.name)
def test_nothing_collides(path: Path) -> None:
    assert not list(ElementTree.parse(path).getroot().iter("collision"))


@pytest.mark.parametrize("name", ROBOTS)
def test_urdf_speed_limit_is_out_of_reach(name: str) -> None:
    for joint in compiled(name).tree.joints:
        # Where damping balances the motor there is no faster; without a motor, the drop of its whole height.
        assert joint.damping > 0.0 and joint.effort / joint.damping < 0.1 * OUT_OF_REACH
    limits = ElementTree.parse(FOLDERS.urdf(name)).getroot().findall("joint/limit")
    assert limits and all(float(limit.attrib["velocity"]) == OUT_OF_REACH for limit in limits)


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def checked(*command: str) -> tuple[bool, str]:
    """Whether a checking tool accepts a file: status 0 and no line that starts with Error. And all it printed."""
    result = run(*command)
    output = result.stdout + result.stderr
    return result.returncode == 0 and not ERROR_LINE.search(output), output


needs_ign = pytest.mark.skipif(
    shutil.which("ign") is None, reason="ign is missing (Debian: ignition-tools libsdformat-dev sdformat-sdf)"
)
needs_check_urdf = pytest.mark.skipif(
    shutil.which("check_urdf") is None, reason="check_urdf is missing (Debian: liburdfdom-tools)"
)
needs_xacro = pytest.mark.skipif(importlib.util.find_spec("xacro") is None, reason="xacro is missing")


@needs_ign
@pytest.mark.parametrize("path", [*DESCRIPTIONS, WORLD], ids=lambda path: path.name)
def test_sdformat_accepts(path: Path) -> None:
    accepted, output = checked("ign", "sdf", "-k", str(path))
    assert accepted, output


@needs_ign
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<child>pole</child>", "<child>mast</child>"),
        ("<mass>5", "<mass>-5"),
        ('version="1.9">', 'version="1.11">'),
    ],
)
def test_sdformat_check_notices_mistakes(tmp_path: Path, before: str, after: str) -> None:
    content = FOLDERS.sdf("cartpole").read_text()
    assert before in content
    broken = tmp_path / "broken.sdf"
    broken.write_text(content.replace(before, after))
    accepted, output = checked("ign", "sdf", "-k", str(broken))
    assert not accepted, output


@needs_check_urdf
@pytest.mark.parametrize("name", ROBOTS)
def test_urdf_tree(name: str) -> None:
    accepted, output = checked("check_urdf", str(FOLDERS.urdf(name)))
    assert accepted, output
    chain = ["base", *(body.name for body in compiled(name).tree.bodies)]
    assert re.search("root Link: world" + "".join(rf".*child\(1\): +{link}\b" for link in chain), output, re.DOTALL)


@needs_xacro
@pytest.mark.parametrize("name", ROBOTS)
def test_xacro_adds_ros2_control_to_the_same_robot(name: str) -> None:
    command = [sys.executable, "-c", "import xacro; xacro.main()", str(FOLDERS.ros2_control(name))]
    plain = ElementTree.parse(FOLDERS.urdf(name)).getroot()

    result = run(*command, "gazebo:=false", "hardware:=vendor/Drive")
    assert result.returncode == 0, result.stderr
    expanded = ElementTree.fromstring(result.stdout)
    for tag in ("link", "joint"):
        assert [part.get("name") for part in expanded.findall(tag)] == [part.get("name") for part in plain.findall(tag)]
    assert expanded.find("gazebo") is None
    assert expanded.findtext("ros2_control/hardware/plugin") == "vendor/Drive"

    result = run(*command, "controllers:=/etc/controllers.yaml")
    if name in IN_GAZEBO:
        assert result.returncode == 0, result.stderr
        expanded = ElementTree.fromstring(result.stdout)
        assert expanded.findtext("gazebo/plugin/parameters") == "/etc/controllers.yaml"
        assert expanded.findtext("ros2_control/hardware/plugin") == "gz_ros2_control/GazeboSimSystem"
    else:
        assert result.returncode != 0, "without Gazebo there is no hardware to take for granted"
