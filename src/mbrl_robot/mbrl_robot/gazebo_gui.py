# SPDX-License-Identifier: Apache-2.0
"""Gazebo's window, as a program that a launch file can start; the server is a process of its own."""

import os
import sys

COMMAND = ("gz", "sim", "-g")


def main() -> None:
    """Becomes Gazebo's window; what a launch file says to nodes (--ros-args) is none of its business."""
    try:
        os.execvp(COMMAND[0], COMMAND)
    except OSError as error:
        sys.exit(
            f"gazebo_gui: {' '.join(COMMAND)}: {error.strerror}; gz comes with ros-$ROS_DISTRO-ros-gz, or gui:=false"
        )
