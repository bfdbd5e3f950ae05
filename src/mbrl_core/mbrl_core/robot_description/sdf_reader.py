# SPDX-License-Identifier: Apache-2.0
"""Reads the model of an SDF file into a tree (sdformat.org, versions 1.7 to 1.9)."""

import math
from pathlib import Path

import numpy as np

from mbrl_core.robot_description.rigid_body import Frame, compose, identity
from mbrl_core.robot_description.tree import FIXED, HINGE, SLIDE, WORLD, Body, Joint, Tree, fold
from mbrl_core.robot_description.xml_reading import MOMENTS, ROTOR_INERTIA, Element, frame_of, parse, tensor

KINDS = {"fixed": FIXED, "prismatic": SLIDE, "revolute": HINGE, "continuous": HINGE}
VERSIONS = ("1.7", "1.8", "1.9")
MODEL = "__model__"
UNLIMITED = 1e16  # SDF's own number for it


def read_sdf(path: Path) -> Tree:
    """The tree of the first model. Raises FileNotFoundError, and DescriptionError that names file and element."""
    root = parse(path)
    if root.xml.tag != "sdf" or root.xml.get("version") not in VERSIONS:
        raise root.error(
            f"got <{root.xml.tag}> version {root.xml.get('version')!r}, expected <sdf> {', '.join(VERSIONS)}"
        )
    model = root.child("model")
    for tag in ("frame", "include", "model"):
        if model.find(tag) is not None:
            raise model.error(f"<{tag}> is not read; expected links and joints alone")
    links = {link.attribute("name"): link for link in model.all("link")}
    joints = {joint.attribute("name"): joint for joint in model.all("joint")}
    frames = _Frames(model, links, joints)
    return fold(
        model.attribute("name"),
        path,
        [_body(name, link, frames.of(name, link)) for name, link in links.items()],
        [_joint(joint, frames) for joint in joints.values()],
    )


class _Frames:
    """The frames of links and joints in the world. A link's pose is in the model, a joint's in its child, or in
    what `relative_to` names."""

    def __init__(self, model: Element, links: dict[str, Element], joints: dict[str, Element]) -> None:
        self._model = model
        self._links = links
        self._joints = joints
        self._waiting: list[str] = []

    def of(self, name: str, asked_by: Element) -> Frame:
        """Raises DescriptionError, for `asked_by`, on an unknown frame and on a circle of them."""
        if name == MODEL:
            return _pose(self._model)[0]
        element = self._links.get(name) or self._joints.get(name)
        if element is None:
            known = ", ".join([*self._links, *self._joints])
            raise asked_by.error(f"no link or joint {name!r}; there are {known}")
        if name in self._waiting:
            raise asked_by.error(f"the poses of {', '.join(self._waiting)} are relative to each other")
        self._waiting.append(name)
        frame, relative_to = _pose(element)
        default = MODEL if name in self._links else element.child("child").text
        found = compose(self.of(relative_to or default, element), frame)
        self._waiting.pop()
        return found


def _pose(element: Element) -> tuple[Frame, str]:
    pose = element.find("pose")
    if pose is None:
        return identity(), ""
    return frame_of(pose.numbers(pose.text, 6)), pose.xml.get("relative_to", "")


def _body(name: str, link: Element, frame: Frame) -> Body:
    inertial = link.find("inertial")
    if inertial is None:
        # SDF's own default.
        return Body(name, 1.0, frame[1], np.eye(3))
    turn, centre = compose(frame, _pose(inertial)[0])
    mass, inertia = inertial.child("mass"), inertial.child("inertia")
    moments = {moment: _number(inertia, moment, float(moment[1] == moment[2])) for moment in MOMENTS}
    return Body(name, mass.number(mass.text), centre, turn @ tensor(moments) @ turn.T)


def _joint(joint: Element, frames: _Frames) -> Joint:
    kind = KINDS.get(joint.attribute("type"))
    if kind is None:
        raise joint.error(f"type: got {joint.attribute('type')!r}, expected one of {', '.join(KINDS)}")
    name, child, parent = joint.attribute("name"), joint.child("child").text, joint.child("parent").text
    for end in (parent, child):
        if end != WORLD:
            frames.of(end, joint)
    turn, anchor = frames.of(name, joint)
    if kind == FIXED:
        return Joint(name, kind, parent, child, anchor, np.zeros(3))
    axis = joint.child("axis")
    xyz = axis.child("xyz")
    if xyz.xml.get("expressed_in"):
        turn = frames.of(xyz.xml.get("expressed_in", ""), joint)[0]
    lower, upper = (_number(axis, f"limit/{end}", sign * math.inf) for end, sign in (("lower", -1), ("upper", 1)))
    effort = _number(axis, "limit/effort", -1.0)
    armature = joint.find(ROTOR_INERTIA)
    gear = joint.find(ROTOR_INERTIA.replace("rotor_inertia", "gear_ratio"))
    ratio = 1.0 if gear is None else gear.number(gear.text)
    return Joint(
        name, kind, parent, child, anchor, turn @ xyz.unit(xyz.text),
        limits=(lower if lower > -UNLIMITED else -math.inf, upper if upper < UNLIMITED else math.inf),
        damping=_number(axis, "dynamics/damping", 0.0),
        friction=_number(axis, "dynamics/friction", 0.0),
        effort=math.inf if effort < 0.0 else effort,
        armature=0.0 if armature is None else armature.number(armature.text) * ratio**2,
    )  # fmt: skip


def _number(element: Element, tag: str, default: float) -> float:
    found = element.find(tag)
    return default if found is None else found.number(found.text)
