# SPDX-License-Identifier: Apache-2.0
"""The MJCF of a robot file: which joints and actuators are the robot's, and what a normalised action is there.

Both the simulation and planning through the true dynamics read it here, so that they cannot differ. No torch.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from mbrl_core.actuators import command_per_control, largest_efforts
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, SpecError


@dataclass(frozen=True)
class RobotMjcf:
    """A loaded MJCF and where the robot's variables are in it.

    positions and velocities [joints] index qpos and qvel in the robot file's order, actuators [action_size] index ctrl.
    SI command = command_per_control * control, an effort, a velocity or a position as the robot's interface says;
    controls are clipped to control_lower and control_upper [action_size], infinite where the actuator has no range.
    largest_efforts [action_size] in N or N m. One control period is steps_per_control time steps.
    """

    model: mujoco.MjModel
    positions: np.ndarray
    velocities: np.ndarray
    actuators: np.ndarray
    command_per_control: Array
    control_lower: Array
    control_upper: Array
    largest_efforts: Array
    steps_per_control: int

    def control(self, command: Array) -> Array:
        """Controls [..., action_size], within their range, of SI commands [..., action_size]."""
        return np.clip(command / self.command_per_control, self.control_lower, self.control_upper)


def compile_mjcf(path: Path) -> mujoco.MjModel:
    """Compiles an MJCF file; MuJoCo's warnings go to the console alone from then on. Raises ValueError where it cannot.

    As it comes MuJoCo also writes each of them to MUJOCO_LOG.TXT in the working directory, without end.
    """
    log = mujoco.MjLogConfig.get()
    log.logto_file = False
    mujoco.MjLogConfig.set(log)
    return mujoco.MjModel.from_xml_path(str(path))


def load_mjcf(robot: Robot, substeps: int = 1) -> RobotMjcf:
    """Loads the robot's MJCF with each of its time steps cut into `substeps`.

    A diverged state stays as it is: MuJoCo's silent reset is off. Raises SpecError when the robot file names no MJCF,
    or a joint or actuator that the MJCF lacks or that is of the wrong type; FileNotFoundError when the MJCF does not
    exist.
    """
    if robot.mjcf is None:
        raise SpecError(f"robot {robot.spec.name!r}: names no mjcf, and MuJoCo needs one")
    if not robot.mjcf.is_file():
        raise FileNotFoundError(f"robot {robot.spec.name!r}: mjcf {robot.mjcf} does not exist")
    if substeps < 1:
        raise ValueError(f"substeps: got {substeps}, expected at least 1")
    model = _load(robot.mjcf)
    _check_period(robot, model.opt.timestep)
    model.opt.timestep /= substeps
    # MuJoCo would answer a diverged state by a silent reset. It has to be an error.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    joints = [_joint_id(robot, model, joint.name, joint.kind) for joint in robot.joints]
    actuators = np.array([_actuator_id(robot, model, joints[index]) for index in robot.action_joints])
    limited = model.actuator_ctrllimited[actuators].astype(bool)
    return RobotMjcf(
        model=model,
        positions=model.jnt_qposadr[joints],
        velocities=model.jnt_dofadr[joints],
        actuators=actuators,
        command_per_control=command_per_control(robot, model, actuators),
        control_lower=np.where(limited, model.actuator_ctrlrange[actuators, 0], -np.inf),
        control_upper=np.where(limited, model.actuator_ctrlrange[actuators, 1], np.inf),
        largest_efforts=largest_efforts(robot, model, actuators),
        steps_per_control=robot.simulation.steps_per_control * substeps,
    )


def mjcf_hash(robot: Robot) -> str:
    """sha256, hexadecimal, of the robot's MJCF and of what it includes. Raises FileNotFoundError and SpecError."""
    if robot.mjcf is None:
        raise SpecError(f"robot {robot.spec.name!r}: names no mjcf")
    digest = hashlib.sha256()
    _digest_file(robot.mjcf, digest)
    return digest.hexdigest()


def _digest_file(path: Path, digest: "hashlib._Hash", folder: Path | None = None) -> None:
    """`folder` is that of the main file, which MuJoCo takes the names of included files relative to."""
    folder = folder or path.parent
    content = path.read_bytes()
    digest.update(content)
    try:
        included = [item.get("file", "") for item in ElementTree.fromstring(content).iter("include")]
    except ElementTree.ParseError as error:
        raise SpecError(f"{path}: {error}") from None
    for name in included:
        inner = folder / name
        _digest_file(inner if inner.is_file() else path.parent / name, digest, folder)


def _load(path: Path) -> mujoco.MjModel:
    try:
        return compile_mjcf(path)
    except ValueError as error:
        raise SpecError(f"{path}: {error}") from None


def _check_period(robot: Robot, timestep: float) -> None:
    steps = robot.simulation.steps_per_control
    if abs(steps * timestep - robot.spec.period) > 1e-9:
        raise SpecError(
            f"robot {robot.spec.name!r}: simulation.steps_per_control {steps} times the timestep {timestep:g} s of"
            f" {robot.mjcf} is {steps * timestep:g} s, expected control.period {robot.spec.period:g} s"
        )


def _joint_id(robot: Robot, model: mujoco.MjModel, name: str, kind: str) -> int:
    joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    if joint < 0:
        known = ", ".join(model.joint(index).name for index in range(model.njnt)) or "none"
        raise SpecError(f"robot {robot.spec.name!r}: joint {name!r} is not in {robot.mjcf}; joints there: {known}")
    expected = mujoco.mjtJoint.mjJNT_SLIDE if kind == "linear" else mujoco.mjtJoint.mjJNT_HINGE
    if int(model.jnt_type[joint]) != int(expected):
        raise SpecError(
            f"robot {robot.spec.name!r}: joint {name!r} is {kind} but a"
            f" {mujoco.mjtJoint(model.jnt_type[joint]).name} in {robot.mjcf}, expected {expected.name}"
        )
    return int(joint)


def _actuator_id(robot: Robot, model: mujoco.MjModel, joint: int) -> int:
    on_joint = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    for actuator in range(model.nu):
        if int(model.actuator_trntype[actuator]) in on_joint and model.actuator_trnid[actuator, 0] == joint:
            return actuator
    joints = [
        int(model.actuator_trnid[index, 0])
        for index in range(model.nu)
        if int(model.actuator_trntype[index]) in on_joint
    ]
    driven = ", ".join(model.joint(index).name for index in joints) or "none"
    raise SpecError(
        f"robot {robot.spec.name!r}: no actuator of {robot.mjcf} drives joint {model.joint(joint).name!r};"
        f" driven joints there: {driven}"
    )
