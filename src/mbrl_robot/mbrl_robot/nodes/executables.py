# SPDX-License-Identifier: Apache-2.0
"""The package's executables. They import nothing of it before signals are taken care of."""

from functools import partial

from mbrl_ros.start import start

mujoco_node = partial(start, "mbrl_robot.nodes.mujoco_node")
dart_node = partial(start, "mbrl_robot.nodes.dart_node")
robot_node = partial(start, "mbrl_robot.nodes.robot_node")
command_splitter_node = partial(start, "mbrl_robot.nodes.command_splitter_node")
watchdog_node = partial(start, "mbrl_robot.nodes.watchdog_node")
faulty_backend_node = partial(start, "mbrl_robot.nodes.faulty_backend_node")
hardware_node = partial(start, "mbrl_robot.nodes.hardware_node")
gazebo_reset_node = partial(start, "mbrl_robot.nodes.gazebo_reset_node")
markers_node = partial(start, "mbrl_robot.nodes.markers_node")
