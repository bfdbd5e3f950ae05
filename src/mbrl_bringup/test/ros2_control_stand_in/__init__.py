# SPDX-License-Identifier: Apache-2.0
"""Stands in for controller_manager, its controllers, robot_state_publisher and xacro, where those are not installed.

Towards topics, parameters and command lines it does what ros2_control and ros2_controllers (2026-08) do:
forward_command_controller/src/forward_controllers_base.cpp, joint_state_broadcaster/src/joint_state_broadcaster.cpp and
controller_manager/src/controller_manager.cpp. What moves behind it is MuJoCo. How spawner and manager talk to each
other is its own affair, since controller_manager_msgs is not there either.
"""
