# SPDX-License-Identifier: Apache-2.0
"""What to install for packages of ROS 2 that launch files use and this workspace does not bring along."""

from __future__ import annotations

import os

# Package: the Debian package without `ros-DISTRO-`.
DEBIAN_PACKAGES = {
    "ros_gz_sim": "ros-gz",
    "ros_gz_bridge": "ros-gz",
    "ros_gz_interfaces": "ros-gz",
    "gz_ros2_control": "gz-ros2-control",
    "simulation_interfaces": "simulation-interfaces",
    "controller_manager": "ros2-control",
    "joint_state_broadcaster": "ros2-controllers",
    "forward_command_controller": "ros2-controllers",
    "robot_state_publisher": "robot-state-publisher",
    "xacro": "xacro",
    "rviz2": "rviz2",
    "joy": "joy",
}
# What it is for, or what else there is to know.
REMARKS = {
    "ros-gz": "ros-gz brings Gazebo along: Harmonic with ROS 2 Jazzy, Ionic with Kilted.",
    "gz-ros2-control": "gz-ros2-control runs ros2_control inside Gazebo; path:=bridge does without.",
    "simulation-interfaces": "Gazebo is reset through simulation-interfaces.",
    "ros2-control": "ros2-control drives robots through their controllers.",
    "ros2-controllers": "ros2-controllers has the controllers themselves.",
    "robot-state-publisher": "robot-state-publisher makes frames of joint states.",
    "xacro": "xacro fills in the robot's description.",
    "rviz2": "rviz2 shows the robot.",
    "joy": "joy reads a joystick.",
}


def advice(packages: list[str]) -> str:
    """What to install for packages that are missing; empty where nothing is known of them."""
    names = list(dict.fromkeys(DEBIAN_PACKAGES[package] for package in packages if package in DEBIAN_PACKAGES))
    if not names:
        return ""
    prefix = f"ros-{os.environ.get('ROS_DISTRO', '') or '$ROS_DISTRO'}-"
    install = f"sudo apt install {' '.join(prefix + name for name in names)}"
    return f"On a machine with ROS 2: `{install}`. {' '.join(REMARKS[name] for name in names)}"
