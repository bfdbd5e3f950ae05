# SPDX-License-Identifier: Apache-2.0
"""The tree, the drawn shapes and the frames of a compiled MJCF, and what of MJCF the other formats cannot say."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from mbrl_core.mjcf import RobotMjcf, load_mjcf
from mbrl_core.robot_description.rigid_body import Frame
from mbrl_core.robot_description.tree import (
    FIXED,
    GRAVITY,
    HINGE,
    SLIDE,
    WORLD,
    Body,
    DescriptionError,
    Joint,
    Tree,
    fold,
)
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array

SHAPES = {
    mujoco.mjtGeom.mjGEOM_SPHERE: "sphere",
    mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
    mujoco.mjtGeom.mjGEOM_CYLINDER: "cylinder",
    mujoco.mjtGeom.mjGEOM_BOX: "box",
}


@dataclass(frozen=True)
class Shape:
    """What is drawn of a body. `size`: radius; radius and length along z; or edge lengths, in m. Colour [4] in 0..1."""

    name: str
    kind: str
    size: tuple[float, ...]
    frame: Frame
    colour: tuple[float, ...]


@dataclass(frozen=True)
class CompiledRobot:
    """A robot as MuJoCo compiles it.

    `frames` of the moving bodies stand at their joints' anchors, with the bodies' axes; `shapes` by body, those that
    nothing moves under "world". All in world coordinates at the reference configuration.
    """

    robot: Robot
    mjcf: RobotMjcf
    tree: Tree
    frames: dict[str, Frame]
    shapes: dict[str, list[Shape]]


def compile_robot(robot: Robot) -> CompiledRobot:
    """Compiles the robot's MJCF.

    Raises what load_mjcf raises, and DescriptionError for anything in the MJCF that URDF and SDF would lose.
    """
    mjcf = load_mjcf(robot)
    model, path = mjcf.model, Path(str(robot.mjcf))
    _refuse_what_would_be_lost(mjcf, robot, path)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    bodies = [_body(model, data, index) for index in range(1, model.nbody)]
    tree = fold(path.stem, path, bodies, _joints(mjcf, data))
    frames = {joint.child: (data.body(joint.child).xmat.reshape(3, 3).copy(), joint.anchor) for joint in tree.joints}
    return CompiledRobot(robot, mjcf, tree, frames, _shapes(model, data, path))


def _refuse_what_would_be_lost(mjcf: RobotMjcf, robot: Robot, path: Path) -> None:
    model = mjcf.model

    def refuse(what: str) -> None:
        raise DescriptionError(f"{path}: {what}")

    for index in range(model.nbody):
        if model.body_jntnum[index] > 1:
            refuse(
                f"body {model.body(index).name!r} has {model.body_jntnum[index]} joints, expected at most one, as links"
                " of URDF and SDF have; give each a body of its own"
            )
        if model.body_gravcomp[index]:
            refuse(f"body {model.body(index).name!r} has gravcomp, which neither URDF nor SDF can express")
    for index in range(model.njnt):
        joint = model.joint(index)
        kind = mujoco.mjtJoint(joint.type[0])
        if kind not in (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE):
            refuse(f"joint {joint.name!r} is a {kind.name}, expected a slide or a hinge")
        if model.qpos0[joint.qposadr[0]] != 0.0:
            refuse(f"joint {joint.name!r} ref: got {model.qpos0[joint.qposadr[0]]:g}, expected 0")
        if np.any(model.jnt_stiffness[index]):
            refuse(f"joint {joint.name!r} has a stiffness, expected none: URDF has no springs")
    names = [model.joint(index).name for index in range(model.njnt)]
    if sorted(joint.name for joint in robot.joints) != sorted(names):
        refuse(f"its joints are {', '.join(names)}, expected exactly those of robot {robot.spec.name!r}")
    if model.nu != robot.spec.action.size:
        refuse(f"it has {model.nu} actuators, expected {robot.spec.action.size}, the actions of {robot.spec.name!r}")
    if not np.isfinite(mjcf.largest_efforts).all():
        bound = "ctrlrange" if robot.interface == "effort" else "forcerange and its joint no actuatorfrcrange"
        refuse(f"an actuator has no {bound}, expected one for each: URDF and SDF state efforts")
    for what, count in (("equality constraints", model.neq), ("tendons", model.ntendon)):
        if count:
            refuse(f"it has {count} {what}, expected none")
    if tuple(model.opt.gravity) != GRAVITY:
        refuse(f"option gravity: got {_row(model.opt.gravity)}, expected {_row(GRAVITY)}, that of Gazebo's world")
    if model.opt.density or model.opt.viscosity:
        refuse("option density, viscosity: expected 0: the other formats have no air")
    colliding = (model.geom_contype | model.geom_conaffinity) != 0
    if colliding.any():
        name = model.geom(int(np.argmax(colliding))).name
        refuse(f"geom {name!r} may collide (contype, conaffinity): expected 0, collision shapes are not written")


def _row(values: Iterable[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _name(model: Any, body: int) -> str:
    return (model.body(body).name or f"body{body}") if body else WORLD


def _body(model: Any, data: Any, index: int) -> Body:
    turn = data.ximat[index].reshape(3, 3)
    inertia = turn @ np.diag(model.body_inertia[index]) @ turn.T
    return Body(
        _name(model, index),
        float(model.body_mass[index]),
        data.xipos[index].copy(),
        0.5 * (inertia + inertia.T),
    )


def _joints(mjcf: RobotMjcf, data: Any) -> list[Joint]:
    model = mjcf.model
    efforts = {
        int(model.actuator_trnid[actuator, 0]): float(bound)
        for actuator, bound in zip(mjcf.actuators, mjcf.largest_efforts, strict=True)
    }
    joints = []
    for index in range(1, model.nbody):
        ends = (_name(model, int(model.body_parentid[index])), _name(model, index))
        if not model.body_jntnum[index]:
            joints.append(Joint(f"{ends[1]}_fixed", FIXED, *ends, data.xpos[index].copy(), np.zeros(3)))
            continue
        number = int(model.body_jntadr[index])
        joint = model.joint(number)
        degree = int(joint.dofadr[0])
        hinge = mujoco.mjtJoint(joint.type[0]) == mujoco.mjtJoint.mjJNT_HINGE
        joints.append(
            Joint(
                joint.name,
                HINGE if hinge else SLIDE,
                *ends,
                anchor=data.xanchor[number].copy(),
                axis=data.xaxis[number].copy(),
                limits=(float(joint.range[0]), float(joint.range[1])) if joint.limited[0] else (-np.inf, np.inf),
                damping=float(model.dof_damping[degree]),
                friction=float(model.dof_frictionloss[degree]),
                effort=efforts.get(number, 0.0),
                armature=float(model.dof_armature[degree]),
            )
        )
    return joints


def _shapes(model: Any, data: Any, path: Path) -> dict[str, list[Shape]]:
    shapes: dict[str, list[Shape]] = {}
    for index in range(model.ngeom):
        geom = model.geom(index)
        kind = mujoco.mjtGeom(geom.type[0])
        if kind == mujoco.mjtGeom.mjGEOM_PLANE:
            continue  # Floors belong to the world.
        if kind not in SHAPES:
            known = ", ".join(SHAPES.values())
            raise DescriptionError(f"{path}: geom {geom.name!r} is a {kind.name}, expected one of {known}")
        owner = _name(model, int(model.body_weldid[geom.bodyid[0]]))
        first, second, third = (float(length) for length in geom.size)
        lengths = {"sphere": (first,), "box": (2.0 * first, 2.0 * second, 2.0 * third)}.get(
            SHAPES[kind], (first, 2.0 * second)
        )
        colour = model.mat_rgba[geom.matid[0]] if geom.matid[0] >= 0 else geom.rgba
        frame = data.geom_xmat[index].reshape(3, 3).copy(), data.geom_xpos[index].copy()
        shapes.setdefault(owner, []).append(
            Shape(geom.name or f"{owner}_{index}", SHAPES[kind], lengths, frame, tuple(float(part) for part in colour))
        )
    return shapes


def mass_and_gravity_of_mujoco(mjcf: RobotMjcf, positions: Array) -> tuple[Array, Array]:
    """What rigid_body.mass_and_gravity says, by MuJoCo itself; `positions` [joints] in the robot file's order."""
    model = mjcf.model
    data = mujoco.MjData(model)
    data.qpos[mjcf.positions] = positions
    mujoco.mj_forward(model, data)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, mass)
    order = np.ix_(mjcf.velocities, mjcf.velocities)
    return mass[order], data.qfrc_bias[mjcf.velocities].copy()
