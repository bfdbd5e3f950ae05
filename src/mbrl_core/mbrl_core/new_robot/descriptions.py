# SPDX-License-Identifier: Apache-2.0
"""The other descriptions of a new robot: controllers of ros2_control always, URDF and SDF where they can be."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import yaml

from mbrl_core.robot_description.check import compare
from mbrl_core.robot_description.export import Folders, files_of, not_for_gazebo
from mbrl_core.robot_description.gazebo_files import SLOWEST_UPDATE
from mbrl_core.robot_description.mujoco_tree import compile_robot
from mbrl_core.robot_description.tree import DescriptionError
from mbrl_core.robot_description.urdf_reader import read_urdf
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import SpecError


def write_descriptions(robot: Robot, folder: Path) -> tuple[list[Path], list[str]]:
    """Writes what `./mbrl robot export` writes into `folder`; the controllers alone where URDF and SDF cannot express
    the robot. Returns the files, and remarks for people."""
    folders = Folders(folder, folder / "gazebo")
    try:
        compiled = compile_robot(robot)
        texts = files_of(compiled, folders)
        remarks = [f"not for Gazebo: {reason}"] if (reason := not_for_gazebo(compiled)) else []
    except DescriptionError as error:
        texts = {folders.controllers(robot.spec.name): _controllers(robot)}
        remarks = [f"no URDF, SDF and Gazebo files; MuJoCo and drives do not need them: {error}"]
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts), remarks


def _controllers(robot: Robot) -> str:
    """Parameters of ros2_control: joint_states out, commands in."""
    controller = robot.command_topic.strip("/").split("/")[0]
    content = {
        "controller_manager": {
            "ros__parameters": {
                "update_rate": round(math.ceil(SLOWEST_UPDATE * robot.spec.period - 1e-9) / robot.spec.period),
                "joint_state_broadcaster": {"type": "joint_state_broadcaster/JointStateBroadcaster"},
                controller: {"type": "forward_command_controller/ForwardCommandController"},
            }
        },
        controller: {
            "ros__parameters": {
                "joints": list(robot.spec.action.names),
                "interface_name": robot.spec.action.interfaces[0],
            }
        },
    }
    head = f"# Controllers of {robot.spec.name} for ros2_control: joint_states out, {robot.command_topic} in.\n"
    return head + yaml.safe_dump(content, sort_keys=False, width=120)


def _without_shapes(mjcf: Path) -> str:
    root = ElementTree.fromstring(mjcf.read_text(encoding="utf-8"))
    for parent in list(root.iter()):
        for element in [*parent.findall("geom"), *parent.findall("asset")]:
            parent.remove(element)
    return ElementTree.tostring(root, encoding="unicode")


def differences_from_urdf(robot_file: Path, urdf_text: str) -> str:
    """The first difference of masses, inertias, axes, limits, mass matrix and gravity between the robot and the URDF it
    was made from; empty where they agree. Pictures do not count."""
    robot = load_robot(robot_file)
    with tempfile.TemporaryDirectory() as folder:
        given, bare = Path(folder) / "given.urdf", Path(folder) / f"{robot.spec.name}.xml"
        given.write_text(urdf_text, encoding="utf-8")
        bare.write_text(_without_shapes(Path(str(robot.mjcf))), encoding="utf-8")
        try:
            compiled = compile_robot(replace(robot, mjcf=bare))
            found = read_urdf(given)
        except (DescriptionError, SpecError) as error:
            return f"not compared: {error}"
        efforts = {joint.name: joint.effort for joint in compiled.tree.joints}
        joints = found.joints
        if robot.spec.action.interfaces[0] != "effort":
            # The limits of drives are not the motors'.
            joints = tuple(replace(joint, effort=efforts.get(joint.name, 0.0)) for joint in joints)
        report = compare(compiled, replace(found, name=compiled.tree.name, joints=joints))
        return "" if report.first is None else report.message().removeprefix(f"{given}: ")
