# SPDX-License-Identifier: Apache-2.0
"""Reads a URDF into a tree (wiki.ros.org/urdf/XML)."""

import math
from pathlib import Path

import numpy as np

from mbrl_core.robot_description.rigid_body import Frame, compose, identity
from mbrl_core.robot_description.tree import FIXED, HINGE, SLIDE, Body, DescriptionError, Joint, Tree, fold
from mbrl_core.robot_description.xml_reading import MOMENTS, ROTOR_INERTIA, Element, frame_of, parse, tensor

KINDS = {"fixed": FIXED, "prismatic": SLIDE, "revolute": HINGE, "continuous": HINGE}


def read_urdf(path: Path) -> Tree:
    """The tree of a URDF. Raises FileNotFoundError, and DescriptionError that names file and element."""
    root = parse(path)
    if root.xml.tag != "robot":
        raise root.error("expected <robot>")
    links = {link.attribute("name"): link for link in root.all("link")}
    joints = root.all("joint")
    frames = _frames(links, joints, path)
    armatures = _armatures(root)
    return fold(
        root.attribute("name"),
        path,
        [_body(name, link, frames[name]) for name, link in links.items()],
        [_joint(joint, frames, armatures) for joint in joints],
    )


def _frames(links: dict[str, Element], joints: list[Element], path: Path) -> dict[str, Frame]:
    """Every link's frame in that of the root, all joints at 0."""
    of_child: dict[str, Element] = {}
    for joint in joints:
        for end in ("parent", "child"):
            if joint.child(end).attribute("link") not in links:
                name = joint.child(end).attribute("link")
                raise joint.error(f"{end}: no link {name!r}; links there: {', '.join(links)}")
        of_child[joint.child("child").attribute("link")] = joint
    roots = [name for name in links if name not in of_child]
    if len(roots) != 1:
        raise DescriptionError(f"{path}: links that no joint holds: {', '.join(roots) or 'none'}; expected exactly one")
    frames = {roots[0]: identity()}
    for name in links:
        chain = [name]
        while chain[-1] not in frames:
            chain.append(of_child[chain[-1]].child("parent").attribute("link"))
            if len(chain) > len(links):
                raise DescriptionError(f"{path}: the joints above link {name!r} make a loop")
        for child, parent in zip(chain[-2::-1], chain[:0:-1], strict=True):
            frames[child] = compose(frames[parent], _origin(of_child[child]))
    return frames


def _origin(element: Element) -> Frame:
    origin = element.find("origin")
    if origin is None:
        return identity()
    xyz = origin.numbers(origin.xml.get("xyz", "0 0 0"), 3)
    return frame_of(np.concatenate([xyz, origin.numbers(origin.xml.get("rpy", "0 0 0"), 3)]))


def _body(name: str, link: Element, frame: Frame) -> Body:
    inertial = link.find("inertial")
    if inertial is None:
        return Body(name)
    turn, centre = compose(frame, _origin(inertial))
    mass, inertia = inertial.child("mass"), inertial.child("inertia")
    moments = {moment: inertia.number(inertia.attribute(moment)) for moment in MOMENTS}
    return Body(name, mass.number(mass.attribute("value")), centre, turn @ tensor(moments) @ turn.T)


def _joint(joint: Element, frames: dict[str, Frame], armatures: dict[str, float]) -> Joint:
    kind = KINDS.get(joint.attribute("type"))
    if kind is None:
        raise joint.error(f"type: got {joint.attribute('type')!r}, expected one of {', '.join(KINDS)}")
    name = joint.attribute("name")
    child = joint.child("child").attribute("link")
    turn, anchor = frames[child]
    axis, limit, dynamics = (joint.find(tag) for tag in ("axis", "limit", "dynamics"))
    limits = (-math.inf, math.inf)
    if kind != FIXED and joint.attribute("type") != "continuous":
        given = joint.child("limit")
        limits = (given.number(given.xml.get("lower", "0")), given.number(given.xml.get("upper", "0")))
    return Joint(
        name, kind, joint.child("parent").attribute("link"), child, anchor,
        # URDF's default is x.
        axis=turn @ (np.array([1.0, 0.0, 0.0]) if axis is None else axis.unit(axis.attribute("xyz"))),
        limits=limits,
        damping=0.0 if dynamics is None else dynamics.number(dynamics.xml.get("damping", "0")),
        friction=0.0 if dynamics is None else dynamics.number(dynamics.xml.get("friction", "0")),
        effort=0.0 if limit is None else limit.number(limit.attribute("effort")),
        armature=armatures.get(name, 0.0),
    )  # fmt: skip


def _armatures(root: Element) -> dict[str, float]:
    """Rotor inertias by joint; a gear ratio other than 1 acts by its square."""
    found = {}
    for transmission in root.all("transmission"):
        actuator = transmission.find("actuator")
        rotor = None if actuator is None else actuator.find(ROTOR_INERTIA)
        if actuator is not None and rotor is not None:
            gear = actuator.find(ROTOR_INERTIA.replace("rotor_inertia", "gear_ratio"))
            ratio = 1.0 if gear is None else gear.number(gear.attribute("value"))
            found[transmission.child("joint").attribute("name")] = rotor.number(rotor.attribute("value")) * ratio**2
    return found
