# SPDX-License-Identifier: Apache-2.0
"""Armature, the inertia of a joint's own rotor, in formats and simulators that know none.

A rotor of armature J adds J qd^2 / 2 to the kinetic energy. A link with inertia J about the joint's axis adds
J w^2 / 2, where w is how fast the link turns in the world. Both are the same where nothing before the joint turns
the link, so there the link carries it. Behind another hinge w is a sum of joint velocities, and no inertia of any link
gives the difference of two such sums: what the link's motion couples, it couples with both signs alike.
"""

from dataclasses import replace

import numpy as np

from mbrl_core.robot_description.tree import HINGE, Joint, Tree


def is_carried(tree: Tree, joint: Joint) -> bool:
    """Whether the joint's link can have its armature as an inertia, exactly."""
    return joint.kind == HINGE and all(other.kind != HINGE for other in tree.ancestors(joint))


def carry(tree: Tree) -> Tree:
    """The tree with armature in the links where that is exact; other joints keep theirs."""
    bodies = {body.name: body for body in tree.bodies}
    joints = []
    for joint in tree.joints:
        if joint.armature and is_carried(tree, joint):
            body = bodies[joint.child]
            # The link turns about this axis alone, so the other two moments are free. Halves of it keep the tensor one
            # that a real body could have, which format checkers insist on.
            added = joint.armature * 0.5 * (np.eye(3) + np.outer(joint.axis, joint.axis))
            bodies[joint.child] = replace(body, inertia=body.inertia + added)
            joint = replace(joint, armature=0.0)
        joints.append(joint)
    return replace(tree, bodies=tuple(bodies[body.name] for body in tree.bodies), joints=tuple(joints))


def left_over(tree: Tree) -> list[Joint]:
    """The joints whose armature no link can carry: Gazebo cannot simulate such a robot."""
    return [joint for joint in carry(tree).joints if joint.armature]
