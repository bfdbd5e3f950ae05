# SPDX-License-Identifier: Apache-2.0
"""What the writers share: elements, numbers in full precision, and the head of a generated file."""

from collections.abc import Iterable
from xml.etree import ElementTree

import numpy as np

from mbrl_core.robot_description.mujoco_tree import CompiledRobot, Shape
from mbrl_core.robot_description.rigid_body import Frame, compose, inverse, to_rpy
from mbrl_core.robot_description.tree import WORLD, Body, DescriptionError
from mbrl_core.robot_description.xml_reading import DRAKE, MOMENTS
from mbrl_core.specs import Array

BASE = "base"  # the link of what stands still
# It moves nothing; simulators want it to have some.
BASE_MASS = 1.0
# Rotations and moments come out of products of rotations, which leave such dust where a zero belongs.
DUST = 1e-15

ElementTree.register_namespace("drake", DRAKE)


def number(value: float, scale: float = 1.0) -> str:
    """All digits of a number; 0 for what is dust beside `scale`."""
    if abs(value) <= DUST * scale:
        return "0"
    return repr(float(value)).removesuffix(".0")


def numbers(values: Iterable[float], scale: float = 1.0) -> str:
    """Numbers separated by blanks."""
    return " ".join(number(value, scale) for value in values)


def within(outer: Frame, inner: Frame) -> tuple[Array, tuple[float, float, float]]:
    """xyz [3] in m and roll, pitch, yaw in rad of `inner` in `outer`, both in the world."""
    rotation, origin = compose(inverse(outer), inner)
    return origin, to_rpy(rotation)


def moments(body: Body, frame: Frame) -> tuple[Array, dict[str, str]]:
    """Centre of mass [3] in m and the six moments in kg m^2 about it along the axes of `frame`."""
    centre = compose(inverse(frame), (np.eye(3), body.centre))[1]
    inertia = frame[0].T @ body.inertia @ frame[0]
    inertia = 0.5 * (inertia + inertia.T)
    scale = float(np.abs(inertia).max())
    return centre, {name: number(inertia["xyz".index(name[1]), "xyz".index(name[2])], scale) for name in MOMENTS}


def add(parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    """A new child element."""
    child = ElementTree.SubElement(parent, tag, attributes)
    child.text = text
    return child


def document(root: ElementTree.Element, compiled: CompiledRobot, remarks: Iterable[str] = ()) -> str:
    """The file's text, with what it was made of at its head."""
    ElementTree.indent(root)
    robot, source = compiled.robot.spec.name, f"mjcf/{compiled.tree.source.name}"
    head = [
        '<?xml version="1.0"?>',
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        f"<!-- Written by `./mbrl robot export {robot}` from {source}: change that, not this. -->",
        *(f"<!-- {remark} -->" for remark in remarks),
    ]
    return "\n".join([*head, ElementTree.tostring(root, encoding="unicode"), ""])


def static_shapes(compiled: CompiledRobot) -> list[Shape]:
    """What is drawn of the base. Raises DescriptionError where a body's name is not free in the other formats."""
    joints = {joint.name for joint in compiled.tree.joints}
    for body in compiled.tree.bodies:
        if body.name in (BASE, WORLD):
            raise DescriptionError(f"{compiled.tree.source}: body {body.name!r}: a link of this name is added")
        if body.name in joints:
            # SDF gives all that is in a model one space of names.
            raise DescriptionError(f"{compiled.tree.source}: body {body.name!r}: a joint has this name as well")
    return compiled.shapes.get(WORLD, [])
