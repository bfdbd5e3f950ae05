# SPDX-License-Identifier: Apache-2.0
"""Writes a URDF, and around it the xacro file by which ros2_control drives the robot."""

import math
from xml.etree import ElementTree

import numpy as np

from mbrl_core.robot_description.armature import carry, left_over
from mbrl_core.robot_description.limits import OUT_OF_REACH
from mbrl_core.robot_description.mujoco_tree import CompiledRobot, Shape
from mbrl_core.robot_description.rigid_body import Frame, compose, identity
from mbrl_core.robot_description.tree import SLIDE, WORLD, Body, Joint
from mbrl_core.robot_description.xml_reading import ROTOR_INERTIA
from mbrl_core.robot_description.xml_writing import (
    BASE,
    BASE_MASS,
    add,
    document,
    moments,
    number,
    numbers,
    static_shapes,
    within,
)  # fmt: skip

XACRO = "http://www.ros.org/wiki/xacro"
REMARK_GAZEBO = (
    "In Gazebo the plugin below starts the controller manager. On hardware pass the driver's plugin with\n"
    "     hardware:= and gazebo:=false. Never together with {drive} of the SDF: both would drive the joints."
)
DRIVES = {"effort": "ApplyJointForce", "velocity": "JointController", "position": "JointPositionController"}
REMARK_HARDWARE = "For hardware alone: Gazebo knows no armature, and no link can carry this robot's."


def urdf_text(compiled: CompiledRobot) -> str:
    """The robot as URDF. Raises DescriptionError where a name of its is needed otherwise."""
    tree = carry(compiled.tree)
    root = ElementTree.Element("robot", name=tree.name)
    # Gazebo fastens a link of this name to its world.
    add(root, "link", name=WORLD)
    _link(root, Body(BASE, BASE_MASS, inertia=np.eye(3)), identity(), static_shapes(compiled))
    base = add(root, "joint", name=f"{BASE}_to_world", type="fixed")
    add(base, "parent", link=WORLD)
    add(base, "child", link=BASE)
    frames = {WORLD: identity(), **compiled.frames}
    for body, joint in zip(tree.bodies, tree.joints, strict=True):
        _link(root, body, frames[body.name], compiled.shapes.get(body.name, []))
        _joint(root, joint, frames)
    for joint in tree.joints:
        if joint.armature:
            _rotor(root, joint)
    return document(root, compiled)


def _link(root: ElementTree.Element, body: Body, frame: Frame, shapes: list[Shape]) -> None:
    link = add(root, "link", name=body.name)
    inertial = add(link, "inertial")
    centre, inertia = moments(body, frame)
    add(inertial, "origin", xyz=numbers(centre))
    add(inertial, "mass", value=number(body.mass))
    add(inertial, "inertia", **inertia)
    for shape in shapes:
        _visuals(link, frame, shape)


def _visuals(link: ElementTree.Element, frame: Frame, shape: Shape) -> None:
    if shape.kind == "capsule":
        # URDF knows no capsule: a cylinder with a ball at each end.
        radius, length = shape.size
        ends = [(np.eye(3), np.array([0.0, 0.0, side * length / 2.0])) for side in (-1.0, 1.0)]
        _visual(link, frame, Shape(shape.name, "cylinder", shape.size, shape.frame, shape.colour))
        for which, end in zip(("_start", "_end"), ends, strict=True):
            ball = Shape(shape.name + which, "sphere", (radius,), compose(shape.frame, end), shape.colour)
            _visual(link, frame, ball)
    else:
        _visual(link, frame, shape)


def _visual(link: ElementTree.Element, frame: Frame, shape: Shape) -> None:
    visual = add(link, "visual", name=shape.name)
    origin, rpy = within(frame, shape.frame)
    add(visual, "origin", xyz=numbers(origin), rpy=numbers(rpy))
    geometry = add(visual, "geometry")
    if shape.kind == "box":
        add(geometry, "box", size=numbers(shape.size))
    elif shape.kind == "sphere":
        add(geometry, "sphere", radius=number(shape.size[0]))
    else:
        add(geometry, shape.kind, radius=number(shape.size[0]), length=number(shape.size[1]))
    colour = numbers(round(part, 4) for part in shape.colour)
    add(add(visual, "material", name=f"{link.get('name')}_{shape.name}"), "color", rgba=colour)


def _joint(root: ElementTree.Element, joint: Joint, frames: dict[str, Frame]) -> None:
    limited = math.isfinite(joint.limits[0]) or math.isfinite(joint.limits[1])
    kind = "prismatic" if joint.kind == SLIDE else "revolute" if limited else "continuous"
    element = add(root, "joint", name=joint.name, type=kind)
    origin, rpy = within(frames[joint.parent], frames[joint.child])
    add(element, "origin", xyz=numbers(origin), rpy=numbers(rpy))
    add(element, "parent", link=BASE if joint.parent == WORLD else joint.parent)
    add(element, "child", link=joint.child)
    add(element, "axis", xyz=numbers(frames[joint.child][0].T @ joint.axis))
    limit = {"effort": number(joint.effort), "velocity": number(OUT_OF_REACH)}
    if kind != "continuous":
        limit = {"lower": number(joint.limits[0]), "upper": number(joint.limits[1]), **limit}
    if kind != "continuous" or joint.effort:
        add(element, "limit", **limit)
    add(element, "dynamics", damping=number(joint.damping), friction=number(joint.friction))


def _rotor(root: ElementTree.Element, joint: Joint) -> None:
    transmission = add(root, "transmission", name=joint.name)
    add(transmission, "type", "transmission_interface/SimpleTransmission")
    add(transmission, "joint", name=joint.name)
    actuator = add(transmission, "actuator", name=joint.name)
    add(actuator, ROTOR_INERTIA, value=number(joint.armature))


def ros2_control_text(compiled: CompiledRobot) -> str:
    """The xacro file: the URDF, its command and state interfaces, and where it can be, Gazebo's controller manager."""
    tree, robot = compiled.tree, compiled.robot
    with_gazebo = not left_over(tree)
    argument = f"controllers:=/absolute/path/{tree.name}_controllers.yaml" if with_gazebo else "hardware:=vendor/Drive"
    remark = (
        f"Under ros2_control: joint_states out, {robot.command_topic} in.\n"
        f"       xacro {tree.name}_ros2_control.urdf.xacro {argument}\n     "
    )
    remark += REMARK_GAZEBO.format(drive=DRIVES[robot.interface]) if with_gazebo else REMARK_HARDWARE
    ElementTree.register_namespace("xacro", XACRO)
    root = ElementTree.Element("robot", name=tree.name)
    if with_gazebo:
        add(root, f"{{{XACRO}}}arg", name="gazebo", default="true")
        add(root, f"{{{XACRO}}}arg", name="hardware", default="gz_ros2_control/GazeboSimSystem")
    add(root, f"{{{XACRO}}}include", filename=f"{tree.name}.urdf")
    control = add(root, "ros2_control", name=tree.name, type="system")
    add(add(control, "hardware"), "plugin", "$(arg hardware)")
    actions = robot.spec.action
    for joint in robot.joints:
        element = add(control, "joint", name=joint.name)
        if joint.name in actions.names:
            index = actions.names.index(joint.name)
            command = add(element, "command_interface", name=actions.interfaces[index])
            for end, bound in (("min", actions.lower[index]), ("max", actions.upper[index])):
                add(command, "param", number(bound * actions.scale[index]), name=end)
        add(element, "state_interface", name="position")
        add(element, "state_interface", name="velocity")
    if with_gazebo:
        gazebo = add(add(root, f"{{{XACRO}}}if", value="$(arg gazebo)"), "gazebo")
        plugin = add(
            gazebo, "plugin", filename="gz_ros2_control-system", name="gz_ros2_control::GazeboSimROS2ControlPlugin"
        )
        add(plugin, "parameters", "$(arg controllers)")
    return document(root, compiled, [remark])
