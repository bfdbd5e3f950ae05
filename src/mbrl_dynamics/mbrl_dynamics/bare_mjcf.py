# SPDX-License-Identifier: Apache-2.0
"""An MJCF less everything that does not move anything: a fifth to a third of a small robot's time goes into visuals."""

import dataclasses
from pathlib import Path

import mujoco
import numpy as np

from mbrl_core.mjcf import RobotMjcf

# What the equations of motion are made of. Afterwards it has to be what it was.
PHYSICS = (
    "body_mass", "body_inertia", "body_ipos", "body_iquat", "body_pos", "body_quat", "body_gravcomp", "jnt_type",
    "jnt_pos", "jnt_axis", "jnt_range", "jnt_limited", "jnt_stiffness", "jnt_solref", "jnt_solimp", "jnt_margin",
    "dof_damping", "dof_armature", "dof_frictionloss", "qpos0", "qpos_spring", "actuator_gear", "actuator_gainprm",
    "actuator_biasprm", "actuator_ctrlrange", "actuator_forcerange", "jnt_actfrcrange", "actuator_trnid",
)  # fmt: skip


def bare(mjcf: RobotMjcf, path: Path) -> RobotMjcf:
    """The same robot, read from `path` again, without geometry, sites, cameras and lights.

    Geometry that may touch, or that anything else refers to, stays: `mjcf` is returned as it is then.
    """
    model = mjcf.model
    if not _only_looks(model):
        return mjcf
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        for body in spec.bodies[1:]:
            index = model.body(body.name).id if body.name else -1
            if index < 0:
                return mjcf
            body.explicitinertial = True
            body.mass, body.inertia = model.body_mass[index], model.body_inertia[index]
            body.ipos, body.iquat = model.body_ipos[index], model.body_iquat[index]
        spec.compiler.inertiafromgeom = int(mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE)
        for elements in (spec.geoms, spec.sites, spec.cameras, spec.lights):
            for element in list(elements):
                spec.delete(element)
        stripped = spec.compile()
    except (ValueError, mujoco.FatalError):
        return mjcf
    if not all(_same(getattr(model, name), getattr(stripped, name)) for name in PHYSICS):
        return mjcf
    stripped.opt = model.opt
    unused = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_SENSOR
    stripped.opt.disableflags = model.opt.disableflags | int(unused)
    return dataclasses.replace(mjcf, model=stripped)


def _only_looks(model: mujoco.MjModel) -> bool:
    """Whether geometry and sites do nothing: no contact, no fluid, and nothing that hangs on them."""
    touches = model.npair > 0 or bool(((model.geom_contype > 0) | (model.geom_conaffinity > 0)).any())
    fluid = model.opt.density > 0.0 or model.opt.viscosity > 0.0
    others = model.nsensor + model.ntendon + model.neq + model.nflex + model.nskin + model.nplugin
    on_joints = np.isin(
        model.actuator_trntype, (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    )
    return not touches and not fluid and others == 0 and bool(on_joints.all())


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=1e-12, atol=1e-15))
