# SPDX-License-Identifier: Apache-2.0
"""ForwardCommandController and JointStateBroadcaster, with what users stumble over."""

import math
import sys
from collections.abc import Sequence
from itertools import pairwise

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray


def parameter_files(words: Sequence[str]) -> list[str]:
    """The options --params-file of a command line."""
    return [each for option, file in pairwise(words) if option == "--params-file" for each in (option, file)]


class ControllerError(Exception):
    """A controller's update has failed; the manager deactivates it."""


class Controller:
    """A lifecycle node without the services of one, as controllers are: state `inactive` or `active`."""

    def __init__(self, name: str, manager: Node) -> None:
        # The process's own arguments rename the manager.
        self.node = Node(
            name,
            namespace=manager.get_namespace(),
            use_global_arguments=False,
            cli_args=["--ros-args", *parameter_files(sys.argv)],
            allow_undeclared_parameters=True,
            automatically_declare_parameters_from_overrides=True,
        )
        assert manager.executor is not None
        manager.executor.add_node(self.node)
        self.state = "inactive"

    def activate(self) -> None:
        """Begins to be updated."""
        self.state = "active"

    def deactivate(self) -> None:
        """Is not updated any more. What it has commanded stays."""
        self.state = "inactive"

    def update(self, stamp: Time, states: dict[str, tuple[float, float]], commands: dict[str, float]) -> None:
        """Reads joints' positions and velocities, writes commands in place. Raises ControllerError."""
        raise NotImplementedError


class ForwardCommandController(Controller):
    """Hears its topic from its configuration on, active or not. No time-out; no zero at the end."""

    def __init__(self, name: str, manager: Node) -> None:
        super().__init__(name, manager)
        self.joints: Sequence[str] = self.node.get_parameter("joints").value
        self.interface = str(self.node.get_parameter("interface_name").value)
        self._command: list[float] = []
        self.node.create_subscription(Float64MultiArray, "~/commands", self._take, QoSProfile(depth=10))

    def activate(self) -> None:
        """What has come before is forgotten."""
        super().activate()
        self._command = []

    def deactivate(self) -> None:
        """The hardware goes on with the last command."""
        super().deactivate()
        self._command = []

    def _take(self, message: Float64MultiArray) -> None:
        if not all(math.isfinite(value) for value in message.data):
            self.node.get_logger().warning("Non-finite value received. Dropping message")
            return
        self._command = list(message.data)

    def update(self, stamp: Time, states: dict[str, tuple[float, float]], commands: dict[str, float]) -> None:
        if not self._command:
            return
        if len(self._command) != len(self.joints):
            raise ControllerError(
                f"command size ({len(self._command)}) does not match number of interfaces ({len(self.joints)})"
            )
        commands.update(zip(self.joints, self._command, strict=True))


class JointStateBroadcaster(Controller):
    """All joints of the description, in the map's order and not in the robot's; NaN where there is no interface."""

    def __init__(self, name: str, manager: Node) -> None:
        super().__init__(name, manager)
        self._publisher = self.node.create_publisher(JointState, "joint_states", QoSProfile(depth=10))

    def update(self, stamp: Time, states: dict[str, tuple[float, float]], commands: dict[str, float]) -> None:
        names = sorted(states, reverse=True)
        message = JointState(
            name=names,
            position=[states[name][0] for name in names],
            velocity=[states[name][1] for name in names],
            effort=[math.nan] * len(names),
        )
        message.header.frame_id = "base_link"
        message.header.stamp = stamp.to_msg()
        self._publisher.publish(message)


TYPES = {
    "joint_state_broadcaster/JointStateBroadcaster": JointStateBroadcaster,
    "forward_command_controller/ForwardCommandController": ForwardCommandController,
}
