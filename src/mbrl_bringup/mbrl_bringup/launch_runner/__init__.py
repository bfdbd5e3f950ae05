# SPDX-License-Identifier: Apache-2.0
"""Runs YAML launch files of ROS 2 on a machine without the `ros2` command."""

from .runner import LaunchRunner, NodeState
from .source import LaunchFileError

__all__ = ["LaunchFileError", "LaunchRunner", "NodeState"]
