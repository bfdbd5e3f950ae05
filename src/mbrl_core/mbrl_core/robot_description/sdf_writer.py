# SPDX-License-Identifier: Apache-2.0
"""Writes an SDF model for Gazebo, with the plugins that publish its joints and drive them."""

import math
from xml.etree import ElementTree

import numpy as np

from mbrl_core.robot_description.armature import carry, left_over
from mbrl_core.robot_description.gazebo_files import joint_topic
from mbrl_core.robot_description.mujoco_tree import CompiledRobot, Shape
from mbrl_core.robot_description.rigid_body import Frame, identity
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

VERSION = "1.9"


def sdf_text(compiled: CompiledRobot) -> str:
    """The robot as SDF. Raises DescriptionError where a name of its is needed otherwise."""
    tree = carry(compiled.tree)
    root = ElementTree.Element("sdf", version=VERSION)
    model = add(root, "model", name=tree.name)
    base = add(model, "joint", name=f"{BASE}_to_world", type="fixed")
    add(base, "parent", WORLD)
    add(base, "child", BASE)
    _link(model, Body(BASE, BASE_MASS, inertia=np.eye(3)), identity(), static_shapes(compiled))
    for body, joint in zip(tree.bodies, tree.joints, strict=True):
        frame = compiled.frames[body.name]
        _link(model, body, frame, compiled.shapes.get(body.name, []))
        _joint(model, joint, frame)
    remarks = []
    if left_over(compiled.tree):
        remarks = ["Gazebo knows no armature, and no link can carry this robot's: nothing here drives it in Gazebo."]
    else:
        _plugins(model, compiled)
    return document(root, compiled, remarks)


def _pose(parent: ElementTree.Element, outer: Frame, inner: Frame) -> None:
    origin, rpy = within(outer, inner)
    text = f"{numbers(origin)} {numbers(rpy)}"
    if text != "0 0 0 0 0 0":
        add(parent, "pose", text)


def _link(model: ElementTree.Element, body: Body, frame: Frame, shapes: list[Shape]) -> None:
    link = add(model, "link", name=body.name)
    _pose(link, identity(), frame)
    inertial = add(link, "inertial")
    centre, inertia = moments(body, frame)
    if centre.any():
        add(inertial, "pose", f"{numbers(centre)} 0 0 0")
    add(inertial, "mass", number(body.mass))
    tensor = add(inertial, "inertia")
    for name, value in inertia.items():
        add(tensor, name, value)
    for shape in shapes:
        visual = add(link, "visual", name=shape.name)
        _pose(visual, frame, shape.frame)
        geometry = add(add(visual, "geometry"), shape.kind)
        if shape.kind == "box":
            add(geometry, "size", numbers(shape.size))
        else:
            add(geometry, "radius", number(shape.size[0]))
            if len(shape.size) > 1:
                add(geometry, "length", number(shape.size[1]))
        material = add(visual, "material")
        for light in ("ambient", "diffuse"):
            add(material, light, numbers(round(part, 4) for part in shape.colour))


def _joint(model: ElementTree.Element, joint: Joint, frame: Frame) -> None:
    # Revolute also without limits: gz-physics' DART takes "continuous" for a fixed joint.
    element = add(model, "joint", name=joint.name, type="prismatic" if joint.kind == SLIDE else "revolute")
    add(element, "parent", BASE if joint.parent == WORLD else joint.parent)
    add(element, "child", joint.child)
    axis = add(element, "axis")
    add(axis, "xyz", numbers(frame[0].T @ joint.axis))
    limit = add(axis, "limit")
    for end, value in zip(("lower", "upper"), joint.limits, strict=True):
        if math.isfinite(value):
            add(limit, end, number(value))
    add(limit, "effort", number(joint.effort))
    dynamics = add(axis, "dynamics")
    add(dynamics, "damping", number(joint.damping))
    if joint.friction:
        add(dynamics, "friction", number(joint.friction))
    if joint.armature:
        add(element, ROTOR_INERTIA, number(joint.armature))


def _plugins(model: ElementTree.Element, compiled: CompiledRobot) -> None:
    publisher = add(
        model, "plugin", filename="gz-sim-joint-state-publisher-system", name="gz::sim::systems::JointStatePublisher"
    )
    for joint in compiled.robot.joints:
        add(publisher, "joint_name", joint.name)
    for index, name in enumerate(compiled.robot.spec.action.names):
        DRIVES[compiled.robot.interface](model, compiled, index, name)


def _force_drive(model: ElementTree.Element, compiled: CompiledRobot, index: int, name: str) -> None:
    drive = add(model, "plugin", filename="gz-sim-apply-joint-force-system", name="gz::sim::systems::ApplyJointForce")
    add(drive, "joint_name", name)


def _velocity_drive(model: ElementTree.Element, compiled: CompiledRobot, index: int, name: str) -> None:
    """Without gains: the physics brings the joint to the velocity within a step, as far as the effort goes."""
    drive = add(model, "plugin", filename="gz-sim-joint-controller-system", name="gz::sim::systems::JointController")
    add(drive, "joint_name", name)
    add(drive, "topic", joint_topic(compiled, name))


def _position_drive(model: ElementTree.Element, compiled: CompiledRobot, index: int, name: str) -> None:
    """The gains are those of MuJoCo's actuator, which has no integral part."""
    mjcf = compiled.mjcf
    actuator = mjcf.actuators[index]
    gear = float(mjcf.model.actuator_gear[actuator, 0])
    stiffness, damping = (-gear * gear * float(value) for value in mjcf.model.actuator_biasprm[actuator, 1:3])
    effort = float(mjcf.largest_efforts[index])
    drive = add(
        model, "plugin", filename="gz-sim-joint-position-controller-system",
        name="gz::sim::systems::JointPositionController",
    )  # fmt: skip
    add(drive, "joint_name", name)
    add(drive, "topic", joint_topic(compiled, name))
    for gain, value in (("p_gain", stiffness), ("i_gain", 0.0), ("d_gain", damping + 0.0),
                        ("cmd_max", effort), ("cmd_min", -effort)):  # fmt: skip
        add(drive, gain, number(value))


DRIVES = {"effort": _force_drive, "velocity": _velocity_drive, "position": _position_drive}
