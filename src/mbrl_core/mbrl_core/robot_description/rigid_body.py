# SPDX-License-Identifier: Apache-2.0
"""Rotations, frames, and the generalised mass and gravity of a tree (Featherstone 2008, section 6.3, by Jacobians)."""

import math

import numpy as np

from mbrl_core.robot_description.tree import GRAVITY, HINGE, WORLD, Tree
from mbrl_core.specs import Array

Frame = tuple[Array, Array]  # rotation [3, 3] and origin [3] in m


def identity() -> Frame:
    """The frame of the world."""
    return np.eye(3), np.zeros(3)


def compose(outer: Frame, inner: Frame) -> Frame:
    """`inner`, which is given in `outer`, in the frame that `outer` is given in."""
    return outer[0] @ inner[0], outer[0] @ inner[1] + outer[1]


def inverse(frame: Frame) -> Frame:
    """The frame that composes with `frame` to the identity."""
    return frame[0].T, -frame[0].T @ frame[1]


def from_rpy(roll: float, pitch: float, yaw: float) -> Array:
    """Rotation [3, 3] of URDF's and SDF's angles in rad: about fixed x, then y, then z."""
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(angle), math.sin(angle)) for angle in (roll, pitch, yaw))
    return np.array([
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ])  # fmt: skip


def to_rpy(rotation: Array) -> tuple[float, float, float]:
    """Roll, pitch and yaw in rad of a rotation [3, 3]."""
    level = math.hypot(rotation[0, 0], rotation[1, 0])
    pitch = math.atan2(-rotation[2, 0], level)
    if level < 1e-9:
        # Upright: only the sum of roll and yaw is defined, and the general formula would read it off rounding errors.
        return 0.0, pitch, math.atan2(-rotation[0, 1], rotation[1, 1])
    return math.atan2(rotation[2, 1], rotation[2, 2]), pitch, math.atan2(rotation[1, 0], rotation[0, 0])


def about_axis(axis: Array, angle: float) -> Array:
    """Rotation [3, 3] by `angle` rad about the unit vector `axis` [3] (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross


def displacements(tree: Tree, positions: Array) -> dict[str, Frame]:
    """How each body has moved from the reference configuration, world coordinates; `positions` [joints] of the tree."""
    moved = {WORLD: identity()}
    for joint, position in zip(tree.joints, positions, strict=True):
        if joint.kind == HINGE:
            rotation = about_axis(joint.axis, position)
            motion = rotation, joint.anchor - rotation @ joint.anchor
        else:
            motion = np.eye(3), position * joint.axis
        moved[joint.child] = compose(moved[joint.parent], motion)
    return moved


def mass_and_gravity(tree: Tree, positions: Array) -> tuple[Array, Array]:
    """Mass matrix [joints, joints], armature included, and gradient of the potential energy [joints], SI units, at
    `positions` [joints], all in the order of the tree's joints."""
    count = len(tree.joints)
    moved = displacements(tree, positions)
    index = {joint.name: number for number, joint in enumerate(tree.joints)}
    mass = np.diag([joint.armature for joint in tree.joints])
    gravity = np.zeros(count)
    for body, own in zip(tree.bodies, tree.joints, strict=True):
        rotation, origin = moved[body.name]
        centre = rotation @ body.centre + origin
        inertia = rotation @ body.inertia @ rotation.T
        linear, angular = np.zeros((3, count)), np.zeros((3, count))
        for joint in (own, *tree.ancestors(own)):
            turned, shifted = moved[joint.parent]
            axis = turned @ joint.axis
            column = index[joint.name]
            if joint.kind == HINGE:
                angular[:, column] = axis
                linear[:, column] = np.cross(axis, centre - (turned @ joint.anchor + shifted))
            else:
                linear[:, column] = axis
        mass += body.mass * linear.T @ linear + angular.T @ inertia @ angular
        gravity -= body.mass * linear.T @ np.array(GRAVITY)
    return mass, gravity
