# SPDX-License-Identifier: Apache-2.0
"""A robot as a tree of rigid bodies, whatever format it came from.

Everything stands in world coordinates at the reference configuration, where all joints are at 0. So two descriptions
that place their link frames differently are the same tree, and forward kinematics is a product of joint motions.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mbrl_core.specs import Array

WORLD = "world"
GRAVITY = (0.0, 0.0, -9.81)  # m/s^2, that of every MJCF and of Gazebo's world here
FIXED, SLIDE, HINGE = "fixed", "slide", "hinge"


class DescriptionError(ValueError):
    """A description that cannot be read, or a robot that a format cannot express. Names file and element."""


@dataclass(frozen=True)
class Body:
    """Mass in kg, centre of mass [3] in m, inertia [3, 3] in kg m^2 about it; world axes, reference configuration."""

    name: str
    mass: float = 0.0
    centre: Array = field(default_factory=lambda: np.zeros(3))
    inertia: Array = field(default_factory=lambda: np.zeros((3, 3)))


@dataclass(frozen=True)
class Joint:
    """The joint that moves `child` against `parent`, a body or "world".

    `kind` is slide, hinge or fixed; anchor [3] in m and axis [3] in world coordinates at the reference configuration;
    limits in m or rad; damping, friction and armature in SI units of the joint; effort in N or N m, 0 without a motor.
    """

    name: str
    kind: str
    parent: str
    child: str
    anchor: Array
    axis: Array
    limits: tuple[float, float] = (-math.inf, math.inf)
    damping: float = 0.0
    friction: float = 0.0
    effort: float = 0.0
    armature: float = 0.0


@dataclass(frozen=True)
class Tree:
    """Moving bodies and their joints, parents first; `source` is the file it was read from."""

    name: str
    source: Path
    bodies: tuple[Body, ...]
    joints: tuple[Joint, ...]

    def body(self, name: str) -> Body:
        """Raises KeyError."""
        return next((body for body in self.bodies if body.name == name), None) or _missing(name)

    def ancestors(self, joint: Joint) -> list[Joint]:
        """The joints between the world and `joint`, nearest first."""
        by_child = {other.child: other for other in self.joints}
        found: list[Joint] = []
        while (found[-1] if found else joint).parent in by_child:
            found.append(by_child[(found[-1] if found else joint).parent])
        return found


def _missing(name: str) -> Body:
    raise KeyError(name)


def fold(name: str, source: Path, bodies: Iterable[Body], joints: Iterable[Joint]) -> Tree:
    """The tree without fixed joints: what is fixed to the world is left out, the rest becomes one with its parent.

    Every body that no joint moves is taken for fixed to the world. Raises DescriptionError on a loop, on two joints
    with one child, or on a joint of an unknown body.
    """
    by_name = {body.name: body for body in bodies}
    of_child: dict[str, Joint] = {}
    for joint in joints:
        for end in (joint.parent, joint.child):
            if end not in by_name and end != WORLD:
                known = ", ".join(by_name)
                raise DescriptionError(f"{source}: joint {joint.name!r}: no link {end!r}; links there: {known}")
        if joint.child in of_child:
            other = of_child[joint.child].name
            raise DescriptionError(f"{source}: link {joint.child!r} is moved by joints {other!r} and {joint.name!r}")
        of_child[joint.child] = joint

    def carrier(body: str) -> str:
        """The moving body, or the world, that `body` is one with."""
        for _ in range(len(of_child) + 1):
            if body not in of_child:
                return WORLD
            if of_child[body].kind != FIXED:
                return body
            body = of_child[body].parent
        raise DescriptionError(f"{source}: the joints above link {body!r} make a loop")

    moving = [replace(joint, parent=carrier(joint.parent)) for joint in of_child.values() if joint.kind != FIXED]
    merged = {
        joint.child: _merge([body for body in by_name.values() if carrier(body.name) == joint.child], joint.child)
        for joint in moving
    }
    ordered = _parents_first(moving, source)
    return Tree(name, source, tuple(merged[joint.child] for joint in ordered), tuple(ordered))


def _parents_first(joints: list[Joint], source: Path) -> list[Joint]:
    ordered: list[Joint] = []
    placed = {WORLD}
    waiting = list(joints)
    while waiting:
        ready = next((joint for joint in waiting if joint.parent in placed), None)
        if ready is None:
            raise DescriptionError(f"{source}: joint {waiting[0].name!r} is part of a loop")
        waiting.remove(ready)
        ordered.append(ready)
        placed.add(ready.child)
    return ordered


def _merge(parts: list[Body], name: str) -> Body:
    mass = sum(part.mass for part in parts)
    if len(parts) == 1 or mass == 0.0:
        return replace(parts[0], name=name)
    centre = sum((part.mass * part.centre for part in parts), np.zeros(3)) / mass
    inertia = np.zeros((3, 3))
    for part in parts:
        arm = part.centre - centre
        inertia += part.inertia + part.mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return Body(name, mass, centre, inertia)
