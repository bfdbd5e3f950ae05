# SPDX-License-Identifier: Apache-2.0
"""The tip of an unknown robot: which point, and which joints move it and how."""

from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np

from mbrl_core.kinematic_chain import ChainJoint, point_of_chain
from mbrl_core.new_robot.source import NewRobotError, Source
from mbrl_core.specs import Array

SAME_PLACE = 1e-6  # m


@dataclass(frozen=True)
class Tip:
    """A point of the robot: `place` [3] (m) with all joints at 0, and the joints that move it, from the base."""

    name: str
    place: Array
    chain: tuple[ChainJoint, ...]

    @property
    def length(self) -> float:
        """From the first anchor over the others to the tip (m)."""
        places = [np.array(joint.anchor) for joint in self.chain if joint.hinge] + [self.place]
        return float(sum(np.linalg.norm(b - a) for a, b in pairwise(places)))

    def at(self, positions: Array) -> Array:
        """Where it is [..., 3] (m) at joint positions [..., joints]."""
        return np.stack(point_of_chain(self.chain, self.place.tolist(), positions), axis=-1)


def tip_of(source: Source, wanted: str = "") -> Tip:
    """The site or body named `wanted`; else the end of the robot: the last site of its longest branch, or the body
    there that is farthest out, or a point as far beyond its last link's centre of mass as its joint is before it.

    Raises NewRobotError that lists what there is when there is no such site or body, or no joint moves it.
    """
    data = _at_zero(source)
    if wanted:
        name, body, place = _named(source, data, wanted)
    else:
        name, body, place = _end(source, data)
    chain = tuple(
        ChainJoint(
            number,
            joint.kind == "angular",
            _numbers(data.xaxis[_joint_id(source, number)]),
            _numbers(data.xanchor[_joint_id(source, number)]),
        )
        for number, joint in enumerate(source.joints)
        if joint.body in _ancestors(source, body)
    )
    if not chain:
        raise NewRobotError(f"{source.path}: no joint moves {wanted!r}; {_choice(source)}")
    return Tip(name, place, chain)


def _at_zero(source: Source) -> mujoco.MjData:
    data = mujoco.MjData(source.model)
    data.qpos[:] = 0.0
    mujoco.mj_kinematics(source.model, data)
    mujoco.mj_comPos(source.model, data)
    return data


def _joint_id(source: Source, number: int) -> int:
    return int(source.model.joint(source.joints[number].name).id)


def _numbers(values: Array) -> tuple[float, float, float]:
    """Without what rounding has left of zeros."""
    x, y, z = (round(float(value), 12) + 0.0 for value in values)
    return x, y, z


def _ancestors(source: Source, body: int) -> list[int]:
    """`body` and those before it, without the world."""
    found = []
    while body:
        found.append(body)
        body = int(source.model.body_parentid[body])
    return found


def _named(source: Source, data: mujoco.MjData, wanted: str) -> tuple[str, int, Array]:
    model = source.model
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, wanted)
    if site >= 0:
        return f"site {wanted}", int(model.site_bodyid[site]), data.site_xpos[site].copy()
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, wanted)
    if body < 0:
        raise NewRobotError(f"{source.path}: there is no site or body {wanted!r}; {_choice(source)}")
    return f"body {wanted}", body, data.xpos[body].copy()


def _choice(source: Source) -> str:
    model = source.model
    sites = ", ".join(model.site(index).name for index in range(model.nsite) if model.site(index).name) or "none"
    bodies = ", ".join(model.body(index).name for index in range(1, model.nbody) if model.body(index).name) or "none"
    return f"sites: {sites}; bodies: {bodies}"


def _end(source: Source, data: mujoco.MjData) -> tuple[str, int, Array]:
    model = source.model
    with_joints = {joint.body for joint in source.joints}

    def joints_before(body: int) -> int:
        return sum(joint.body in _ancestors(source, body) for joint in source.joints)

    most = max(joints_before(body) for body in range(1, model.nbody))
    last = next(body for body in range(1, model.nbody) if joints_before(body) == most)
    branch = [
        body
        for body in range(1, model.nbody)
        if joints_before(body) == most and next(a for a in _ancestors(source, body) if a in with_joints) == last
    ]
    sites = [site for site in range(model.nsite) if int(model.site_bodyid[site]) in branch and model.site(site).name]
    anchor = data.xanchor[[_joint_id(source, n) for n, joint in enumerate(source.joints) if joint.body == last][-1]]

    def off_axis(place: Array) -> float:
        return float(np.linalg.norm(place - anchor))

    if sites and off_axis(data.site_xpos[sites[-1]]) > SAME_PLACE:
        site = sites[-1]
        return f"site {model.site(site).name}", int(model.site_bodyid[site]), data.site_xpos[site].copy()
    farthest = max(branch, key=lambda body: off_axis(data.xpos[body]))
    if farthest != last and off_axis(data.xpos[farthest]) > SAME_PLACE:
        return f"body {model.body(farthest).name or farthest}", farthest, data.xpos[farthest].copy()
    masses = model.body_mass[branch]
    centre = (masses[:, None] * data.xipos[branch]).sum(axis=0) / max(masses.sum(), 1e-12)
    name = model.body(last).name or str(last)
    return f"the end of body {name}", last, anchor + 2.0 * (centre - anchor)
