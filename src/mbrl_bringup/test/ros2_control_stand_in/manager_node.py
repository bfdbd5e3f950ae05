# SPDX-License-Identifier: Apache-2.0
"""ros2_control_node: waits for robot_description, then reads, updates and writes; MuJoCo is the hardware."""

import os
from functools import partial
from typing import Any
from xml.etree import ElementTree

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from mbrl_core.robot_file import load_robot
from mbrl_robot.scheduling import take_precedence
from mbrl_robot.simulation import MujocoSimulation
from mbrl_ros import qos
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns, steady_timer

from .controllers import TYPES, Controller, ControllerError, ForwardCommandController
from .prefix import PHYSICS

# A joint of the description that no robot file has: a gripper, say. Its state is always this.
FURTHER_JOINT = "further_joint"
# Of the drives' own loops, in MJCF effort for m or rad and m/s or rad/s; per unit of the actuator's largest effort.
STIFFNESS, DAMPING = 30.0, 5.0


class ControllerManager(Node):
    """A manager with its controllers and the robot."""

    def __init__(self) -> None:
        super().__init__(
            "controller_manager",
            allow_undeclared_parameters=True,
            automatically_declare_parameters_from_overrides=True,
        )
        self._robot = load_robot(os.environ[PHYSICS])
        self._simulation = MujocoSimulation(self._robot)
        self._simulation.reset(np.array([*self._robot.start.position_mean, *[0.0] * len(self._robot.joints)]))
        self._controllers: dict[str, Controller] = {}
        self._commands: dict[str, float] = {}
        self._interface = "effort"
        self._largest = np.array(self._robot.spec.action.scale) * np.array(self._robot.spec.action.upper)
        self._description = ""
        self.create_subscription(String, "robot_description", self._take_description, qos.LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=1))
        # What only the stand-in has: what the drives do, and where somebody's hand has put the robot.
        self._applied = self.create_publisher(Float64MultiArray, "~/applied", QoSProfile(depth=1))
        self.create_subscription(Float64MultiArray, "~/move_by_hand", self._move_by_hand, QoSProfile(depth=1))

    def destroy_node(self) -> None:
        """With its controllers; no zero."""
        for controller in self._controllers.values():
            controller.node.destroy_node()
        super().destroy_node()

    def _take_description(self, message: String) -> None:
        if self._description:
            return
        self._description = message.data
        plugin = ElementTree.fromstring(message.data).findtext("ros2_control/hardware/plugin")
        self.get_logger().info(f"Resource Manager has been successfully initialized: {plugin}")
        overrides = self.get_parameters_by_prefix("")
        for key, value in overrides.items():
            name, _, kind = key.rpartition(".")
            if kind == "type" and name:
                self.create_service(Trigger, f"~/activate_{name}", partial(self._activate, name, str(value.value)))
                self.create_service(Trigger, f"~/deactivate_{name}", partial(self._deactivate, name))
        rate = int(self.get_parameter("update_rate").value)
        # The real one runs at SCHED_FIFO 50 where it may.
        take_precedence(1)
        self._period_ns = round(1e9 / rate)
        self._simulated_ns = now_ns()
        steady_timer(self, 1.0 / rate, self._cycle)
        steady_timer(self, float(self._setting("diagnostic_updater.period", 1.0)), self._say)

    def _setting(self, name: str, default: Any) -> Any:
        return self.get_parameter(name).value if self.has_parameter(name) else default

    def _activate(self, name: str, kind: str, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if kind not in TYPES:
            response.message = f"Loader for controller '{name}' (type '{kind}') not found."
            return response
        if name not in self._controllers:
            self._controllers[name] = TYPES[kind](name, self)
        controller = self._controllers[name]
        if isinstance(controller, ForwardCommandController):
            self._interface = controller.interface
        controller.activate()
        response.success = True
        return response

    def _deactivate(self, name: str, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._controllers[name].deactivate()
        response.success = True
        return response

    def _move_by_hand(self, message: Float64MultiArray) -> None:
        self._simulation.reset(np.array(message.data))

    def _cycle(self) -> None:
        self._read()
        state = self._simulation.state
        joints = len(self._robot.joints)
        states = {
            joint.name: (float(state[index]), float(state[joints + index]))
            for index, joint in enumerate(self._robot.joints)
        }
        states[FURTHER_JOINT] = (0.04, 0.0)
        stamp = self.get_clock().now()
        for name, controller in self._controllers.items():
            if controller.state == "active":
                try:
                    controller.update(stamp, states, self._commands)
                except ControllerError as error:
                    controller.node.get_logger().error(str(error))
                    self.get_logger().error(
                        f"Deactivating controllers : [ {name}] as their update resulted in an error!"
                    )
                    controller.deactivate()

    def _read(self) -> None:
        """The robot has moved under the commands written last, for ever where none are written any more."""
        time_ns = now_ns()
        elapsed_ns = min(time_ns - self._simulated_ns, 50_000_000)
        self._simulated_ns = time_ns
        applied = np.array([self._commands.get(name, np.nan) for name in self._robot.spec.action.names])
        steps = max(1, round(elapsed_ns / self._period_ns))
        for _ in range(steps):
            self._simulation.set_command(self._effort(np.where(np.isnan(applied), 0.0, applied), np.isnan(applied)))
            self._simulation.advance_time(elapsed_ns * 1e-9 / steps)
        self._applied.publish(Float64MultiArray(data=applied.tolist()))

    def _effort(self, command: np.ndarray, nothing: np.ndarray) -> np.ndarray:
        """Of the drives: the effort itself, or a stiff loop around it. A drive that has no command yet does nothing."""
        if self._interface == "effort":
            return command
        state = self._simulation.state
        positions = state[list(self._robot.action_joints)]
        velocities = state[[index + len(self._robot.joints) for index in self._robot.action_joints]]
        if self._interface == "velocity":
            effort = DAMPING * self._largest * (command - velocities)
        else:
            effort = self._largest * (STIFFNESS * (command - positions) - DAMPING * velocities)
        return np.where(nothing, 0.0, np.clip(effort, -self._largest, self._largest))

    def _say(self) -> None:
        values = []
        for name, controller in self._controllers.items():
            values.append(KeyValue(key=f"{name}.state", value=controller.state))
            if controller.state == "active":
                values.append(KeyValue(key=f"{name}.periodicity", value="Avg: 0.00 [0.00 - 0.00] Hz, StdDev: 0.00"))
        everyone = all(controller.state == "active" for controller in self._controllers.values())
        # diagnostic_updater's parameter use_fqn.
        fully = bool(self._setting("diagnostic_updater.use_fqn", False))
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name() if fully else self.get_name()}: Controllers Activity",
            message="All controllers are active" if everyone else "Not all controllers are active",
            hardware_id="ros2_control",
            values=values,
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(ControllerManager)
