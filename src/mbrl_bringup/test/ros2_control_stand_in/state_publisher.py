# SPDX-License-Identifier: Apache-2.0
"""robot_state_publisher as far as it concerns a controller manager: its parameter on a latched topic."""

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String


def main() -> int:
    """Runs the node; returns the exit status."""
    rclpy.init()
    node = Node("robot_state_publisher")
    description = node.declare_parameter("robot_description", "").value
    if not description:
        raise RuntimeError("robot_description parameter must not be empty")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_publisher(String, "robot_description", latched).publish(String(data=description))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    node.destroy_node()
    rclpy.try_shutdown()
    return 0
