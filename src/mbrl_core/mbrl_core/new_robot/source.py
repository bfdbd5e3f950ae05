# SPDX-License-Identifier: Apache-2.0
"""Joints and actuators of an MJCF as a robot file wants them; what cannot be is refused by the element's name."""

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from mbrl_core.mjcf import compile_mjcf
from mbrl_core.specs import Array

JOINT_KINDS = {mujoco.mjtJoint.mjJNT_HINGE: "angular", mujoco.mjtJoint.mjJNT_SLIDE: "linear"}
ON_JOINT = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)


class NewRobotError(ValueError):
    """A robot that cannot be described. Names file and element, and says what to do."""


@dataclass(frozen=True)
class SourceJoint:
    """A hinge or slide: `position` and `velocity` index qpos and qvel; limits in rad or m."""

    name: str
    kind: str
    limits: tuple[float, float]
    position: int
    velocity: int
    body: int

    @property
    def limited(self) -> bool:
        """Whether both limits are there."""
        return bool(np.isfinite(self.limits).all())


@dataclass(frozen=True)
class SourceActuator:
    """What drives joint number `joint`: SI command = `gear` * control, control within [lower, upper], infinite where
    the MJCF says nothing. `delayed`: it has a dynamics of its own, which the state does not show."""

    joint: int
    interface: str
    gear: float
    lower: float
    upper: float
    delayed: bool

    @property
    def bound(self) -> float:
        """The largest SI command."""
        return abs(self.gear) * max(abs(self.lower), abs(self.upper))


@dataclass(frozen=True)
class Source:
    """A compiled MJCF. `positions` [joints] and `velocities` [joints] index qpos and qvel."""

    path: Path
    model: mujoco.MjModel
    joints: tuple[SourceJoint, ...]
    actuators: tuple[SourceActuator, ...]

    @property
    def positions(self) -> Array:
        return np.array([joint.position for joint in self.joints])

    @property
    def velocities(self) -> Array:
        return np.array([joint.velocity for joint in self.joints])

    @property
    def driven(self) -> set[int]:
        """Numbers of the joints that an actuator moves."""
        return {actuator.joint for actuator in self.actuators}


def read_source(path: Path) -> Source:
    """Compiles an MJCF. Raises FileNotFoundError, and NewRobotError on what a robot file cannot say."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        model = compile_mjcf(path)
    except ValueError as error:
        raise NewRobotError(f"{path}: MuJoCo does not compile it: {error}") from None
    joints = tuple(_joint(model, number, path) for number in range(model.njnt))
    if not joints:
        raise NewRobotError(f"{path}: it has no joints, expected at least one hinge or slide")
    if model.nu == 0:
        raise NewRobotError(
            f"{path}: it has no actuators; add one for each joint with a motor, as <actuator><motor"
            f' name="{joints[-1].name}" joint="{joints[-1].name}" ctrlrange="-1 1" gear="10"/></actuator>'
        )
    actuators = tuple(_actuator(model, number, path) for number in range(model.nu))
    for number, actuator in enumerate(actuators):
        first = next(other for other, item in enumerate(actuators) if item.joint == actuator.joint)
        if first != number:
            raise NewRobotError(
                f"{path}: actuators {_actuator_name(model, first)} and {_actuator_name(model, number)} both drive joint"
                f" {joints[actuator.joint].name!r}, expected one a joint; remove one"
            )
    return Source(path, model, joints, actuators)


def _joint(model: mujoco.MjModel, number: int, path: Path) -> SourceJoint:
    name = model.joint(number).name
    body = model.body(int(model.jnt_bodyid[number])).name or f"number {model.jnt_bodyid[number]}"
    kind = mujoco.mjtJoint(model.jnt_type[number])
    if kind not in JOINT_KINDS:
        what = "free" if kind == mujoco.mjtJoint.mjJNT_FREE else "ball"
        remedy = (
            "fix the body to the world, or give it slides and hinges"
            if what == "free"
            else "replace it by three hinges in bodies of their own"
        )
        raise NewRobotError(
            f"{path}: body {body!r} has a {what} joint {name!r}, expected slides and hinges: a robot file's state is"
            f" one number a joint; {remedy}"
        )
    if not name:
        raise NewRobotError(
            f"{path}: a joint of body {body!r} has no name, which topics and states need; give it one, for instance"
            f' name="{body}_joint"'
        )
    limits = tuple(map(float, model.jnt_range[number])) if model.jnt_limited[number] else (-np.inf, np.inf)
    return SourceJoint(
        name,
        JOINT_KINDS[kind],
        (limits[0], limits[1]),
        int(model.jnt_qposadr[number]),
        int(model.jnt_dofadr[number]),
        int(model.jnt_bodyid[number]),
    )


def _actuator_name(model: mujoco.MjModel, number: int) -> str:
    return repr(model.actuator(number).name) if model.actuator(number).name else f"number {number}"


def _actuator(model: mujoco.MjModel, number: int, path: Path) -> SourceActuator:
    where = f"{path}: actuator {_actuator_name(model, number)}"
    transmission = mujoco.mjtTrn(model.actuator_trntype[number])
    if transmission not in ON_JOINT:
        kind = transmission.name.removeprefix("mjTRN_").lower()
        raise NewRobotError(
            f"{where} acts on a {kind}, expected a joint: an action of a robot file drives one joint; drive the joints"
            " that it moves by actuators of their own"
        )
    gain, bias = mujoco.mjtGain(model.actuator_gaintype[number]), mujoco.mjtBias(model.actuator_biastype[number])
    if gain != mujoco.mjtGain.mjGAIN_FIXED or bias not in (mujoco.mjtBias.mjBIAS_NONE, mujoco.mjtBias.mjBIAS_AFFINE):
        raise NewRobotError(
            f"{where} has gain {gain.name} and bias {bias.name}; expected <motor>, <position> or <velocity>"
        )
    amplification = float(model.actuator_gainprm[number, 0])
    if amplification == 0.0:
        raise NewRobotError(f"{where} has a gain of 0: it never moves anything")
    offset, stiffness, damping = (float(value) for value in model.actuator_biasprm[number, :3])
    gear = float(model.actuator_gear[number, 0])
    if bias == mujoco.mjtBias.mjBIAS_NONE or not (stiffness or damping):
        interface, amount = "effort", gear * amplification
        if bias != mujoco.mjtBias.mjBIAS_NONE and offset:
            raise NewRobotError(f"{where} has a constant force besides its control, expected a <motor>")
    else:
        # The control is what position or velocity times the gear shall be.
        interface, amount = ("position" if stiffness else "velocity"), 1.0 / gear if gear else 0.0
    lower, upper = -np.inf, np.inf
    if model.actuator_ctrllimited[number]:
        lower, upper = map(float, model.actuator_ctrlrange[number])
    joint = int(model.actuator_trnid[number, 0])
    if interface == "effort":
        lower, upper = _force_limits(model, number, joint, lower, upper)
    if not np.isfinite([lower, upper]).all() and interface == "position" and model.jnt_limited[joint]:
        lower, upper = sorted(float(end) * gear for end in model.jnt_range[joint])
    if interface != "effort" and not np.isfinite([lower, upper]).all():
        raise NewRobotError(f"{where} is a {interface} actuator without ctrlrange; give it one")
    if not lower < upper:
        raise NewRobotError(f"{where}: control range: got {lower:g} to {upper:g}, expected more than one number")
    delayed = mujoco.mjtDyn(model.actuator_dyntype[number]) != mujoco.mjtDyn.mjDYN_NONE
    return SourceActuator(joint, interface, amount, lower, upper, delayed)


def _force_limits(model: mujoco.MjModel, number: int, joint: int, lower: float, upper: float) -> tuple[float, float]:
    """Range of a motor's control within what force limits of actuator and joint leave of it."""
    gain, gear = float(model.actuator_gainprm[number, 0]), float(model.actuator_gear[number, 0])
    if model.actuator_forcelimited[number]:
        ends = sorted(float(force) / gain for force in model.actuator_forcerange[number])
        lower, upper = max(lower, ends[0]), min(upper, ends[1])
    if model.jnt_actfrclimited[joint] and gear:
        ends = sorted(float(force) / (gain * gear) for force in model.jnt_actfrcrange[joint])
        lower, upper = max(lower, ends[0]), min(upper, ends[1])
    return lower, upper
