# SPDX-License-Identifier: Apache-2.0
"""The cart-pole is one robot in MJCF, URDF and SDF, and the formats' own tools accept it."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from cartpole_files import ROS2_CONTROL, SDF, URDF, WORLD, Joint, Link, from_mjcf, from_sdf, from_urdf

ERROR_LINE = re.compile(r"^(\x1b\[[0-9;]*m)*(Error|ERROR)\b", re.MULTILINE)
Reader = Callable[[], tuple[dict[str, Link], dict[str, Joint]]]


@pytest.mark.parametrize("read", [from_urdf, from_sdf])
def test_links_are_mujocos(read: Reader) -> None:
    expected, _ = from_mjcf()
    links, _ = read()
    assert set(links) == {"rail", *expected}, "the rail is fixed to the world and moves nothing"
    for name, link in expected.items():
        assert links[name].mass == pytest.approx(link.mass, rel=1e-9)
        np.testing.assert_allclose(links[name].centre, link.centre, atol=1e-12)
        np.testing.assert_allclose(links[name].inertia, link.inertia, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("read", [from_urdf, from_sdf])
def test_joints_are_mujocos(read: Reader) -> None:
    _, expected = from_mjcf()
    _, joints = read()
    assert list(joints) == list(expected)
    for name, joint in expected.items():
        found = joints[name]
        assert (found.kind, found.child, found.limits) == (joint.kind, joint.child, joint.limits)
        assert found.parent == ("rail" if joint.parent == "world" else joint.parent)
        np.testing.assert_array_equal(found.axis, joint.axis)
        np.testing.assert_array_equal(found.origin, joint.origin)
        assert found.damping == joint.damping
        assert found.effort == joint.effort


@pytest.mark.parametrize("path", [URDF, SDF, WORLD])
def test_nothing_collides(path: Path) -> None:
    assert not list(ElementTree.parse(path).getroot().iter("collision"))


def test_urdf_speed_limit_is_out_of_reach() -> None:
    limit = ElementTree.parse(URDF).getroot().find("joint[@name='slider']/limit")
    assert limit is not None
    travel, force, mass = 5.0, 300.0, sum(from_mjcf()[0][name].mass for name in ("cart", "pole"))
    assert float(limit.attrib["velocity"]) > 10.0 * (2.0 * force / mass * travel) ** 0.5


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def checked(*command: str) -> tuple[bool, str]:
    """Whether a checking tool accepts a file: status 0 and no line that starts with Error. And all it printed."""
    result = run(*command)
    output = result.stdout + result.stderr
    return result.returncode == 0 and not ERROR_LINE.search(output), output


needs_ign = pytest.mark.skipif(
    shutil.which("ign") is None, reason="ign is missing (Debian: ignition-tools sdformat-sdf)"
)
needs_check_urdf = pytest.mark.skipif(
    shutil.which("check_urdf") is None, reason="check_urdf is missing (liburdfdom-tools)"
)
needs_xacro = pytest.mark.skipif(importlib.util.find_spec("xacro") is None, reason="xacro is missing")


@needs_ign
@pytest.mark.parametrize("path", [SDF, WORLD, URDF])
def test_sdformat_accepts(path: Path) -> None:
    accepted, output = checked("ign", "sdf", "-k", str(path))
    assert accepted, output


@needs_ign
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<child>pole</child>", "<child>mast</child>"),
        ("<mass>5.018585355564</mass>", "<mass>-5</mass>"),
        ('<sdf version="1.9">', '<sdf version="1.11">'),
    ],
)
def test_sdformat_check_notices_mistakes(tmp_path: Path, before: str, after: str) -> None:
    content = SDF.read_text()
    assert before in content
    broken = tmp_path / "broken.sdf"
    broken.write_text(content.replace(before, after))
    accepted, output = checked("ign", "sdf", "-k", str(broken))
    assert not accepted, output


@needs_check_urdf
def test_urdf_tree() -> None:
    accepted, output = checked("check_urdf", str(URDF))
    assert accepted, output
    assert re.search(r"root Link: world.*child\(1\): +rail.*child\(1\): +cart.*child\(1\): +pole", output, re.DOTALL)


@needs_xacro
def test_xacro_adds_ros2_control_to_the_same_robot() -> None:
    command = [sys.executable, "-c", "import xacro; xacro.main()", str(ROS2_CONTROL)]
    result = run(*command, "controllers:=/etc/controllers.yaml")
    assert result.returncode == 0, result.stderr
    expanded = ElementTree.fromstring(result.stdout)
    plain = ElementTree.parse(URDF).getroot()
    assert [link.attrib["name"] for link in expanded.findall("link")] == [
        link.attrib["name"] for link in plain.findall("link")
    ]
    assert expanded.findtext("gazebo/plugin/parameters") == "/etc/controllers.yaml"
    assert expanded.findtext("ros2_control/hardware/plugin") == "gz_ros2_control/GazeboSimSystem"

    result = run(*command, "gazebo:=false", "hardware:=vendor/Drive")
    assert result.returncode == 0, result.stderr
    expanded = ElementTree.fromstring(result.stdout)
    assert expanded.find("gazebo") is None
    assert expanded.findtext("ros2_control/hardware/plugin") == "vendor/Drive"
