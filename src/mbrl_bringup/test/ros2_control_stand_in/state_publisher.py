# SPDX-License-Identifier: Apache-2.0
"""robot_state_publisher as far as it concerns a controller manager: its parameter on a latched topic."""

from rclpy.node import Node
from std_msgs.msg import String

from mbrl_core.config import ConfigurationError
from mbrl_ros import qos
from mbrl_ros.process import run


class StatePublisher(Node):
    """Publishes robot_description once."""

    def __init__(self) -> None:
        super().__init__("robot_state_publisher")
        description = self.declare_parameter("robot_description", "").value
        if not description:
            raise ConfigurationError("robot_description parameter must not be empty")
        self._publisher = self.create_publisher(String, "robot_description", qos.LATCHED)
        self._publisher.publish(String(data=description))


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(StatePublisher)
