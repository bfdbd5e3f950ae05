# SPDX-License-Identifier: Apache-2.0
"""Writes the files beside a description: topics of ros_gz_bridge, and the controllers of ros2_control."""

import math

import yaml

from mbrl_core.command_interfaces import JOINT_TOPICS
from mbrl_core.robot_description.mujoco_tree import CompiledRobot
from mbrl_core.robot_description.tree import DescriptionError

WORLD_NAME = "mbrl"  # that of sdf/mbrl.world.sdf; it is part of the topics
SLOWEST_UPDATE = 500.0  # Hz
COMMANDS = "/commands"


def joint_topic(compiled: CompiledRobot, joint: str) -> str:
    """Gazebo's topic of one joint's commands."""
    return f"/model/{compiled.tree.name}/joint/{joint}/{JOINT_TOPICS[compiled.robot.interface]}"


def bridge_text(compiled: CompiledRobot) -> str:
    """The file of ros_gz_bridge: joint states out, one command per driven joint in. It knows no substitutions."""
    name, ending = compiled.tree.name, JOINT_TOPICS[compiled.robot.interface]
    entries = [
        _topic("joint_states", f"/world/{WORLD_NAME}/model/{name}/joint_state",
               "sensor_msgs/msg/JointState", "gz.msgs.Model", "GZ_TO_ROS"),
        *(_topic(f"{joint}/{ending}", joint_topic(compiled, joint),
                 "std_msgs/msg/Float64", "gz.msgs.Double", "ROS_TO_GZ")
          for joint in compiled.robot.spec.action.names),
    ]  # fmt: skip
    remark = (
        f'# ros_gz_bridge between sdf/{name}.sdf in the world "{WORLD_NAME}" and the suite. /clock has a bridge of its'
        " own.\n"
    )
    return _head(compiled) + remark + yaml.safe_dump(entries, sort_keys=False, width=120)


def _topic(ros: str, gazebo: str, ros_type: str, gazebo_type: str, direction: str) -> dict[str, str]:
    return {
        "ros_topic_name": ros,
        "gz_topic_name": gazebo,
        "ros_type_name": ros_type,
        "gz_type_name": gazebo_type,
        "direction": direction,
    }


def controllers_text(compiled: CompiledRobot) -> str:
    """Parameters of the controller manager, the broadcaster and the controller that takes the robot's commands.

    Raises DescriptionError where the robot's command topic is not that of a controller.
    """
    robot = compiled.robot
    if not robot.command_topic.endswith(COMMANDS):
        raise DescriptionError(
            f"robot {robot.spec.name!r} control.command_topic: got {robot.command_topic!r}, expected"
            f" CONTROLLER{COMMANDS}"
        )
    controller = robot.command_topic.removesuffix(COMMANDS)
    # A control period has to be a whole number of updates.
    update_rate = math.ceil(SLOWEST_UPDATE * robot.spec.period - 1e-9) / robot.spec.period
    if abs(update_rate - round(update_rate)) > 1e-6:
        raise DescriptionError(
            f"robot {robot.spec.name!r} control.period: got {robot.spec.period:g} s, expected a whole number of updates"
            " of ros2_control, whose rate is a whole number of Hz"
        )
    content = {
        "controller_manager": {
            "ros__parameters": {
                "update_rate": round(update_rate),
                "joint_state_broadcaster": {"type": "joint_state_broadcaster/JointStateBroadcaster"},
                controller: {"type": "forward_command_controller/ForwardCommandController"},
            }
        },
        controller: {"ros__parameters": {"joints": list(robot.spec.action.names), "interface_name": robot.interface}},
    }
    remark = (
        f"# Controllers for {compiled.tree.name}_ros2_control.urdf.xacro: joint_states out, {robot.command_topic} in.\n"
    )
    return _head(compiled) + remark + yaml.safe_dump(content, sort_keys=False, width=120)


def _head(compiled: CompiledRobot) -> str:
    robot = compiled.robot.spec.name
    return (
        "# SPDX-License-Identifier: Apache-2.0\n"
        f"# Written by `./mbrl robot export {robot}` from mjcf/{compiled.tree.source.name}: change that, not this.\n"
    )
