# SPDX-License-Identifier: Apache-2.0
"""MuJoCo's actuators behind the three command interfaces: what a control is in SI units, and the largest effort.

MuJoCo's force of an actuator without dynamics is gain * control + bias, with bias = b0 + b1 * length + b2 * velocity,
and length and velocity those of the joint times the gear (https://mujoco.readthedocs.io, chapter Computation).
<motor> has no bias. <velocity> has b2 = -gain: without a load the joint comes to velocity = control / gear.
<position> has b1 = -gain and may have a damping b2: the joint comes to position = control / gear. Any general actuator
whose bias has these terms alone is such a servo, too.
"""

import mujoco
import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, SpecError

ELEMENTS = {"effort": "<motor>", "velocity": "<velocity>", "position": "<position>"}


def command_per_control(robot: Robot, model: mujoco.MjModel, actuators: np.ndarray) -> Array:
    """SI command [action_size] for one unit of control of each of the `actuators` [action_size].

    Raises SpecError where an actuator is not of the kind that its action's interface asks for.
    """
    actions = robot.spec.action
    return np.array(
        [
            _command_per_control(robot, model, int(actuator), name, interface)
            for name, interface, actuator in zip(actions.names, actions.interfaces, actuators, strict=True)
        ]
    )


def largest_efforts(robot: Robot, model: mujoco.MjModel, actuators: np.ndarray) -> Array:
    """Largest effort [action_size] in N or N m that each actuator can apply; infinite where nothing bounds it."""
    gear, gain = np.abs(model.actuator_gear[actuators, 0]), np.abs(model.actuator_gainprm[actuators, 0])
    joints = model.actuator_trnid[actuators, 0]
    limited = model.actuator_forcelimited[actuators].astype(bool)
    efforts = np.where(limited, np.abs(model.actuator_forcerange[actuators]).max(axis=1) * gear, np.inf)
    limited = model.jnt_actfrclimited[joints].astype(bool)
    efforts = np.where(limited, np.minimum(efforts, np.abs(model.jnt_actfrcrange[joints]).max(axis=1)), efforts)
    if robot.interface == "effort":
        ranged = model.actuator_ctrllimited[actuators].astype(bool)
        controls = np.abs(model.actuator_ctrlrange[actuators]).max(axis=1)
        efforts = np.minimum(efforts, np.where(ranged, controls * (gear * gain), np.inf))
    return np.asarray(efforts)


def _command_per_control(robot: Robot, model: mujoco.MjModel, actuator: int, action: str, interface: str) -> float:
    gear, gain = float(model.actuator_gear[actuator, 0]), float(model.actuator_gainprm[actuator, 0])
    constant, stiffness, damping = (float(value) for value in model.actuator_biasprm[actuator, :3])
    biased = int(model.actuator_biastype[actuator]) != int(mujoco.mjtBias.mjBIAS_NONE)
    if interface == "effort":
        fits, servo = not biased, 1.0
    else:
        fits = (
            int(model.actuator_gaintype[actuator]) == int(mujoco.mjtGain.mjGAIN_FIXED)
            and int(model.actuator_biastype[actuator]) == int(mujoco.mjtBias.mjBIAS_AFFINE)
            and int(model.actuator_dyntype[actuator]) == int(mujoco.mjtDyn.mjDYN_NONE)
            and constant == 0.0
            and gain != 0.0
            and (stiffness == 0.0 and damping < 0.0 if interface == "velocity" else stiffness < 0.0 and damping <= 0.0)
        )
        servo = -damping if interface == "velocity" else -stiffness
    if not fits:
        raise SpecError(
            f"action {action!r}: interface {interface!r} through actuator {model.actuator(actuator).name!r} of"
            f" {robot.mjcf}, expected a {ELEMENTS[interface]} actuator, or a general one of the same terms without"
            " dynamics"
        )
    return gain * gear if interface == "effort" else gain / (servo * gear)
