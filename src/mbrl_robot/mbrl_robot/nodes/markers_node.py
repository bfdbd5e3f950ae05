# SPDX-License-Identifier: Apache-2.0
"""What a plan predicts, for RViz: the path of the robot's tip, how uncertain it is, and the task's obstacles."""

import zlib
from dataclasses import dataclass

import mujoco
import numpy as np
from geometry_msgs.msg import Point, Quaternion
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from mbrl_core.config import parameter
from mbrl_core.messages import Plan
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_core.task import Task
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import Task as TaskMessage
from mbrl_robot.tip_kinematics import TipKinematics, ellipsoid
from mbrl_ros import qos
from mbrl_ros.conversions import MessageError, plan_from_message, task_from_message
from mbrl_ros.health import Health
from mbrl_ros.parameters import declare, finish
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns

FRAME = "world"
LIFETIME = Duration(seconds=1.0)
# Flat discs would be nothing at all in RViz.
THINNEST = 1e-3
DISC_HEIGHT = 0.02
STANDARD_DEVIATIONS = 2.0
OBSTACLE_COLOUR = ColorRGBA(r=0.86, g=0.17, b=0.2, a=0.5)


@dataclass(frozen=True)
class MarkersConfiguration:
    """Parameters of markers_node."""

    robot_file: str = parameter("", "Robot file (YAML): its MJCF has a site `tip`", read_only=True)
    rate: float = parameter(10.0, "Plans shown each second, of every controller", minimum=0.1, maximum=100.0)
    line_width: float = parameter(0.008, "Of the path, m", minimum=0.0001)


class MarkersNode(Node):
    """Publishes `plan_markers` and `obstacle_markers` in the frame `world`, with stamp 0: whatever is newest there.

    Namespace `path/CONTROLLER` is the predicted path of the tip, `spread/CONTROLLER` an ellipsoid of two standard
    deviations at each of its points, `obstacles` those of the task in force. What is no longer planned vanishes after a
    second.
    """

    def __init__(self) -> None:
        super().__init__("markers")
        self._configuration = declare(self, MarkersConfiguration, on_change=self._change)
        finish(self)
        robot = load_robot(self._configuration.robot_file)
        self._spec = robot.spec
        self._kinematics = TipKinematics(robot)
        self._health = Health(self)
        self._last_ns: dict[str, int] = {}
        self._markers = self.create_publisher(MarkerArray, "plan_markers", qos.STATUS)
        self._obstacles = self.create_publisher(MarkerArray, "obstacle_markers", qos.LATCHED)
        self.create_subscription(PlanMessage, "plan", self._take_plan, qos.PLAN_FROM_ALL)
        self.create_subscription(TaskMessage, "task", self._take_task, qos.LATCHED)

    def _change(self, configuration: MarkersConfiguration) -> None:
        self._configuration = configuration

    def _take_plan(self, message: PlanMessage) -> None:
        time_ns = now_ns()
        if time_ns - self._last_ns.get(message.controller, 0) < 1e9 / self._configuration.rate:
            return
        try:
            plan = plan_from_message(message, self._spec)
        except MessageError as error:
            self._health.refuse(f"plan/{error.reason}", str(error))
            return
        if plan.predicted_states is None:
            return
        self._last_ns[message.controller] = time_ns
        self._markers.publish(MarkerArray(markers=self._of_plan(plan, message.controller)))

    def _of_plan(self, plan: Plan, controller: str) -> list[Marker]:
        states = plan.predicted_states
        assert states is not None
        colour = _colour(controller)
        tips = [self._kinematics.tip(state) for state in states]
        path = _marker(f"path/{controller}", 0, Marker.LINE_STRIP, colour)
        path.scale.x = self._configuration.line_width
        path.points = [_point(tip) for tip in tips]
        path.lifetime = LIFETIME.to_msg()
        markers = [path]
        if plan.predicted_std is None:
            return markers
        faint = ColorRGBA(r=colour.r, g=colour.g, b=colour.b, a=0.2)
        for row, (state, std, tip) in enumerate(zip(states, plan.predicted_std, tips, strict=True)):
            half_axes, rotation = ellipsoid(self._kinematics.covariance(state, std))
            marker = _marker(f"spread/{controller}", row, Marker.SPHERE, faint)
            marker.pose.position, marker.pose.orientation = _point(tip), _quaternion(rotation)
            sizes = np.maximum(2.0 * STANDARD_DEVIATIONS * half_axes, THINNEST)
            marker.scale.x, marker.scale.y, marker.scale.z = map(float, sizes)
            marker.lifetime = LIFETIME.to_msg()
            markers.append(marker)
        return markers

    def _take_task(self, message: TaskMessage) -> None:
        try:
            task = task_from_message(message, self._spec)
        except MessageError as error:
            self._health.refuse(f"task/{error.reason}", str(error))
            return
        self._obstacles.publish(MarkerArray(markers=self._of_task(task)))

    def _of_task(self, task: Task) -> list[Marker]:
        markers = [Marker(ns="obstacles", action=Marker.DELETEALL)]
        workspace = self._kinematics.workspace(task) if task.obstacles else None
        if task.obstacles and workspace is None:
            self._health.warn(f"task {task.kind!r}: obstacles are not shown, for its tip is not that of the MJCF")
        if workspace is None:
            return markers
        axes, origin = workspace
        for number, (*centre, radius) in enumerate(task.spheres):
            position = origin.copy()
            position[list(axes)] += centre
            marker = _marker("obstacles", number, Marker.SPHERE, OBSTACLE_COLOUR)
            height = 2.0 * radius
            if len(axes) == 2:
                marker.type, height = Marker.CYLINDER, DISC_HEIGHT
                marker.pose.orientation = _quaternion(_turned_to_z(axes))
            marker.pose.position = _point(position)
            marker.scale.x = marker.scale.y = 2.0 * radius
            marker.scale.z = height
            markers.append(marker)
        return markers


def _marker(namespace: str, number: int, kind: int, colour: ColorRGBA) -> Marker:
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD, color=colour)
    marker.header.frame_id = FRAME
    marker.pose.orientation.w = 1.0
    return marker


def _turned_to_z(axes: tuple[int, ...]) -> Array:
    """Rotation [3, 3] that takes a cylinder's axis, z, to the one that is normal to two axes."""
    rotation = np.zeros((3, 3))
    normal = 3 - sum(axes)
    rotation[[(normal + 1) % 3, (normal + 2) % 3, normal], [0, 1, 2]] = 1.0
    return rotation


def _point(position: Array) -> Point:
    return Point(x=float(position[0]), y=float(position[1]), z=float(position[2]))


def _quaternion(rotation: Array) -> Quaternion:
    values = np.zeros(4)
    mujoco.mju_mat2Quat(values, np.ascontiguousarray(rotation).reshape(9))
    w, x, y, z = map(float, values)
    return Quaternion(x=x, y=y, z=z, w=w)


def _colour(controller: str) -> ColorRGBA:
    """One of its own for every controller, the same every time."""
    hue = zlib.crc32(controller.encode()) % 360 / 360.0
    red, green, blue = (float(abs((hue * 6.0 + offset) % 6.0 - 3.0) - 1.0) for offset in (0.0, 4.0, 2.0))
    return ColorRGBA(r=min(max(red, 0.1), 1.0), g=min(max(green, 0.1), 1.0), b=min(max(blue, 0.1), 1.0), a=1.0)


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(MarkersNode)
