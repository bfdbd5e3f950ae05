# SPDX-License-Identifier: Apache-2.0
"""Which files a robot has besides its MJCF, and what belongs into them."""

from dataclasses import dataclass
from pathlib import Path

from mbrl_core.robot_description.armature import left_over
from mbrl_core.robot_description.gazebo_files import bridge_text, controllers_text
from mbrl_core.robot_description.mujoco_tree import CompiledRobot
from mbrl_core.robot_description.sdf_writer import sdf_text
from mbrl_core.robot_description.urdf_writer import ros2_control_text, urdf_text


@dataclass(frozen=True)
class Folders:
    """Where a robot's files lie: `description` has the folders urdf and sdf, `gazebo` bridges and controllers."""

    description: Path
    gazebo: Path

    def urdf(self, name: str) -> Path:
        """`name` is that of the MJCF."""
        return self.description / "urdf" / f"{name}.urdf"

    def ros2_control(self, name: str) -> Path:
        """The xacro file around the URDF."""
        return self.description / "urdf" / f"{name}_ros2_control.urdf.xacro"

    def sdf(self, name: str) -> Path:
        """The model for Gazebo."""
        return self.description / "sdf" / f"{name}.sdf"

    def bridge(self, name: str) -> Path:
        """The file of ros_gz_bridge."""
        return self.gazebo / f"{name}_bridge.yaml"

    def controllers(self, name: str) -> Path:
        """The parameters of ros2_control."""
        return self.gazebo / f"{name}_controllers.yaml"


def files_of(compiled: CompiledRobot, folders: Folders) -> dict[Path, str]:
    """The text of every file that belongs to the robot. No bridge where Gazebo cannot simulate it.

    Raises DescriptionError where one of the formats cannot express the robot.
    """
    name = compiled.tree.name
    files = {
        folders.urdf(name): urdf_text(compiled),
        folders.ros2_control(name): ros2_control_text(compiled),
        folders.sdf(name): sdf_text(compiled),
        folders.controllers(name): controllers_text(compiled),
    }
    if not left_over(compiled.tree):
        files[folders.bridge(name)] = bridge_text(compiled)
    return files


def not_for_gazebo(compiled: CompiledRobot) -> str:
    """Why Gazebo cannot simulate the robot; empty where it can."""
    joints = [f"{joint.name!r} ({joint.armature:g})" for joint in left_over(compiled.tree)]
    if not joints:
        return ""
    return (
        f"{compiled.tree.source.name}: no link can carry the armature of joint {', '.join(joints)}, since joints before"
        " it turn the link as well, and Gazebo has no armature of its own; URDF and SDF carry it as drake:rotor_inertia"
    )
