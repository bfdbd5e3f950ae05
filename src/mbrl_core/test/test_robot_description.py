# SPDX-License-Identifier: Apache-2.0
"""Descriptions of a robot with everything that the shipped ones have not: turned frames, joints beside their bodies'
origins, oblique inertias, bodies without joints, friction, one-sided limits, a tree with branches."""

import math
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import yaml

from mbrl_core.robot_description.armature import carry, is_carried, left_over
from mbrl_core.robot_description.check import check, compare
from mbrl_core.robot_description.dart import MISSING, SYSTEM_PYTHON, available, compare_in_dart
from mbrl_core.robot_description.export import Folders, files_of, not_for_gazebo
from mbrl_core.robot_description.mujoco_tree import CompiledRobot, compile_robot, mass_and_gravity_of_mujoco
from mbrl_core.robot_description.rigid_body import from_rpy, mass_and_gravity, to_rpy
from mbrl_core.robot_description.tree import DescriptionError
from mbrl_core.robot_file import load_robot

OBLIQUE = """
<mujoco model="oblique">
  <compiler angle="radian" autolimits="false"/>
  <option timestep="0.01" {option}/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <body name="bracket" pos="0.1 0.2 0.3" euler="0.3 0.2 0.1">
      <geom type="box" size="0.1 0.1 0.1" mass="3"/>
      <body name="carriage" pos="0 0.1 0.05" euler="0.2 -0.4 0.7">
        <joint name="lift" type="slide" axis="0.3 0.2 1" limited="true" range="-0.4 0.7" damping="2"
               frictionloss="0.3"/>
        <inertial pos="0.01 0.02 -0.03" mass="2" fullinertia="0.03 0.04 0.05 0.004 -0.006 0.005"/>
        <geom type="capsule" fromto="0 0 0 0.1 0.2 0.3" size="0.02" mass="0"/>
        <body name="arm" pos="0.3 -0.1 0.2" euler="1.2 0.3 -0.8">
          <joint name="turn" type="hinge" axis="1 2 -0.5" pos="0.02 0.01 -0.05" limited="false" damping="0.1"
                 armature="{armature}"/>
          <geom type="box" pos="0.1 0 0.1" euler="0.5 0.6 0.7" size="0.1 0.05 0.02" mass="0.7"/>
          <body name="weight" pos="0.1 0.1 0.1" euler="0.4 0 0">
            <geom type="cylinder" size="0.03 0.05" mass="0.4"/>
          </body>
          <body name="left_part" pos="0.2 0 0">
            <joint name="left" type="hinge" axis="0 0 1" limited="true" range="-3 0.5"/>
            <geom type="sphere" pos="0.1 0 0" size="0.03" mass="0.2"/></body>
          <body name="right_part" pos="0 0.2 0"><joint name="right" type="hinge" axis="1 0 0" limited="false" {right}/>
            <geom type="capsule" size="0.02 0.1" pos="0 0.1 0.1" mass="0.3"/></body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="turn" gear="-4" ctrllimited="true" ctrlrange="-1 2"/>
    {actuator}
  </actuator>
  {rest}
</mujoco>
"""
JOINTS = {"lift": "linear", "turn": "angular", "left": "angular", "right": "angular"}


def compiled(folder: Path, armature: float = 0.0, **parts: str) -> CompiledRobot:
    names = ("option", "right", "actuator", "rest")
    text = OBLIQUE.format(armature=armature, **{name: parts.get(name, "") for name in names})
    for before, after in parts.items():
        if before not in names:
            text = text.replace(before, after)
    (folder / "oblique.xml").write_text(text)
    content = {
        "name": "oblique",
        "mjcf": "oblique.xml",
        "control": {"period": 0.01},
        "joints": [{"name": name, "kind": kind} for name, kind in JOINTS.items()],
        "actions": [{"joint": "turn", "limits": [-1.0, 2.0], "scale": -4.0}],
    }
    (folder / "oblique.yaml").write_text(yaml.safe_dump(content))
    return compile_robot(load_robot(folder / "oblique.yaml"))


def written(robot: CompiledRobot, folder: Path) -> Folders:
    folders = Folders(folder, folder / "gazebo")
    for path, text in files_of(robot, folders).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folders


@pytest.mark.parametrize("armature", [0.0, 0.5])
def test_export_and_check_agree_on_any_tree(tmp_path: Path, armature: float) -> None:
    robot = compiled(tmp_path, armature)
    folders = written(robot, tmp_path)
    for path in (folders.urdf("oblique"), folders.sdf("oblique")):
        report = check(robot, path)
        assert report.first is None, report.message()
        assert max(finding.error for finding in report.findings) < 1e-12
    assert not not_for_gazebo(robot)
    assert {joint.name: joint.effort for joint in robot.tree.joints} == {"lift": 0, "turn": 8, "left": 0, "right": 0}


def test_bodies_without_joints_become_one_with_their_parents(tmp_path: Path) -> None:
    robot = compiled(tmp_path)
    assert [body.name for body in robot.tree.bodies] == ["carriage", "arm", "left_part", "right_part"]
    assert robot.tree.body("arm").mass == pytest.approx(1.1)
    assert robot.tree.joints[0].parent == "world"


def test_energy_and_its_gradient_are_mujocos(tmp_path: Path) -> None:
    robot = compiled(tmp_path, armature=0.2)
    random = np.random.default_rng(0)
    for _ in range(20):
        positions = random.uniform(-3.0, 3.0, 4)
        mass, gravity = mass_and_gravity(robot.tree, positions)
        of_mujoco = mass_and_gravity_of_mujoco(robot.mjcf, positions)
        np.testing.assert_allclose(mass, of_mujoco[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(gravity, of_mujoco[1], rtol=1e-9, atol=1e-10)


def test_armature_is_carried_only_where_it_is_exact(tmp_path: Path) -> None:
    robot = compiled(tmp_path, armature=0.5)
    assert [is_carried(robot.tree, joint) for joint in robot.tree.joints] == [False, True, False, False]
    assert compare(robot, carry(robot.tree)).first is None
    assert not left_over(robot.tree)
    moments = np.linalg.eigvalsh(carry(robot.tree).body("arm").inertia)
    assert moments[0] + moments[1] >= moments[2], "no body has such an inertia"

    robot = compiled(tmp_path, right='armature="0.2"')
    assert [joint.name for joint in left_over(robot.tree)] == ["right"]
    assert "'right' (0.2)" in not_for_gazebo(robot)
    folders = written(robot, tmp_path)
    for path in (folders.urdf("oblique"), folders.sdf("oblique")):
        assert check(robot, path).first is None
        assert "drake:rotor_inertia" in path.read_text()
    assert "ApplyJointForce" not in folders.sdf("oblique").read_text()
    assert not folders.bridge("oblique").exists()


def test_a_gear_counts_by_its_square(tmp_path: Path) -> None:
    robot = compiled(tmp_path, right='armature="0.18"')
    folders = written(robot, tmp_path)
    urdf, sdf = folders.urdf("oblique"), folders.sdf("oblique")
    rotor = '<drake:rotor_inertia value="0.18" />'
    urdf.write_text(urdf.read_text().replace(rotor, '<drake:rotor_inertia value="0.02"/><drake:gear_ratio value="3"/>'))
    sdf.write_text(
        sdf.read_text().replace(
            "<drake:rotor_inertia>0.18</drake:rotor_inertia>",
            "<drake:rotor_inertia>0.02</drake:rotor_inertia><drake:gear_ratio>3</drake:gear_ratio>",
        )
    )
    assert check(robot, urdf).first is None
    assert check(robot, sdf).first is None


def test_other_frames_are_the_same_robot(tmp_path: Path) -> None:
    """Poses relative to joints and parents, axes expressed elsewhere: what converters write."""
    robot = compiled(tmp_path)
    path = written(robot, tmp_path).sdf("oblique")
    tree = ElementTree.parse(path)
    model = tree.getroot()[0]
    axis = model.find("joint[@name='turn']/axis/xyz")
    assert axis is not None
    axis.set("expressed_in", "base")
    axis.text = " ".join(map(repr, robot.tree.joints[1].axis.tolist()))
    link, joint = model.find("link[@name='left_part']"), model.find("joint[@name='left']")
    assert link is not None and joint is not None
    pose = link.find("pose")
    assert pose is not None
    link.remove(pose)
    pose.set("relative_to", "__model__")
    joint.insert(0, pose)
    ElementTree.SubElement(link, "pose", relative_to="left").text = "0 0 0 0 0 0"
    tree.write(path)
    report = check(robot, path)
    assert report.first is None, report.message()

    pose.set("relative_to", "left_part")
    tree.write(path)
    with pytest.raises(DescriptionError, match="the poses of left_part, left are relative to each other"):
        check(robot, path)
    pose.set("relative_to", "swing")
    tree.write(path)
    with pytest.raises(DescriptionError, match="joint 'left': no link or joint 'swing'"):
        check(robot, path)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"option": 'gravity="0 0 -1.62"'}, "option gravity: got 0 0 -1.62, expected 0 0 -9.81"),
        ({'ctrllimited="true"': 'ctrllimited="false"'}, "an actuator has no ctrlrange"),
        ({"option": 'viscosity="0.1"'}, "option density, viscosity"),
        ({"right": 'stiffness="2"'}, "joint 'right' has a stiffness"),
        ({"right": 'ref="0.3"'}, "joint 'right' ref: got 0.3, expected 0"),
        ({"actuator": '<motor joint="left"/>'}, "it has 2 actuators, expected 1"),
        ({"rest": '<equality><joint joint1="left" joint2="right"/></equality>'}, "it has 1 equality constraints"),
        ({'<body name="weight"': '<body name="weight" gravcomp="1"'}, "body 'weight' has gravcomp"),
        ({'contype="0"': 'contype="1"'}, "may collide"),
        ({'type="sphere"': 'type="ellipsoid"', 'size="0.03"': 'size="0.03 0.02 0.01"'}, "is a mjGEOM_ELLIPSOID"),
        (
            {'<body name="right_part" pos="0 0.2 0">': '<body name="right_part" pos="0 0.2 0"><joint name="more"/>'},
            "body 'right_part' has 2 joints, expected at most one",
        ),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    with pytest.raises(DescriptionError) as failure:
        compiled(tmp_path, **parts)
    assert str(failure.value).startswith(f"{tmp_path / 'oblique.xml'}: ")
    assert message in str(failure.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('name="carriage"', 'name="base"', "body 'base': a link of this name is added"),
        ('name="carriage"', 'name="turn"', "body 'turn': a joint has this name as well"),
    ],
)
def test_a_name_that_is_taken_is_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    robot = compiled(tmp_path, **{before: after})
    with pytest.raises(DescriptionError, match=message):
        written(robot, tmp_path)


def test_angles_survive_all_orientations() -> None:
    random = np.random.default_rng(1)
    quaternions = random.normal(size=(200, 4))
    rotations = [np.zeros(9) for _ in quaternions]
    for rotation, quaternion in zip(rotations, quaternions, strict=True):
        mujoco.mju_quat2Mat(rotation, quaternion / np.linalg.norm(quaternion))
    upright = [from_rpy(0.4, side * math.pi / 2.0, -0.9) for side in (-1.0, 1.0)]
    for rotation in [*(rotation.reshape(3, 3) for rotation in rotations), *upright]:
        np.testing.assert_allclose(from_rpy(*to_rpy(rotation)), rotation, atol=1e-9)


@pytest.mark.skipif(not available(), reason=MISSING.format(python=SYSTEM_PYTHON))
def test_dart_reads_and_moves_what_is_written(tmp_path: Path) -> None:
    """The mass matrix of readers that are not ours, with turned frames, branches and armature of both kinds."""
    robot = compiled(tmp_path, armature=0.1, right='armature="0.05"')
    folders = written(robot, tmp_path)
    for path in (folders.urdf("oblique"), folders.sdf("oblique")):
        report = compare_in_dart(robot, path)
        assert report.dynamics < 1e-10
        assert not report.message()
        assert max(motion.tolerance for motion in report.motions) < 1e-4
