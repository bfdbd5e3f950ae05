# SPDX-License-Identifier: Apache-2.0
"""A MuJoCo simulation of a robot file: state in the robot file's order, commands in SI units, exact steps."""

import mujoco
import numpy as np

from mbrl_core.robot_file import Robot, start_state
from mbrl_core.specs import Array, SpecError

# An answer to "how long is left" below this is rounding, not time.
SMALLEST_STEP = 1e-7


class SimulationError(RuntimeError):
    """The simulation has no finite state any more."""


class MujocoSimulation:
    """Simulates the robot's MJCF.

    The state is [state_size] as in the robot file: positions in its joint order, then velocities; SI units. Commands
    are SI efforts [action_size], converted through each actuator's gear and gain and clipped to its ctrlrange.

    Raises SpecError when the robot file names no MJCF, or a joint or actuator that the MJCF lacks, or a joint or
    actuator of the wrong type; FileNotFoundError when the MJCF does not exist.
    """

    def __init__(self, robot: Robot, substeps: int = 1) -> None:
        if robot.mjcf is None:
            raise SpecError(f"robot {robot.spec.name!r}: names no mjcf, and MuJoCo needs one")
        if not robot.mjcf.is_file():
            raise FileNotFoundError(f"robot {robot.spec.name!r}: mjcf {robot.mjcf} does not exist")
        if substeps < 1:
            raise ValueError(f"substeps: got {substeps}, expected at least 1")
        self.robot = robot
        self.model = _load(robot)
        _check_period(robot, self.model.opt.timestep)
        self.model.opt.timestep /= substeps
        # MuJoCo would answer a diverged state by a silent reset. It has to be an error.
        self.model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        self.timestep = float(self.model.opt.timestep)
        self.data = mujoco.MjData(self.model)
        self._steps_per_control = robot.simulation.steps_per_control * substeps
        joints = [_joint_id(robot, self.model, joint.name, joint.kind) for joint in robot.joints]
        self._positions = self.model.jnt_qposadr[joints]
        self._velocities = self.model.jnt_dofadr[joints]
        self._actuators = np.array([_actuator_id(robot, self.model, joints[index]) for index in robot.action_joints])
        self._check_interfaces()
        # force = gain * control * gear
        self._effort_per_control = (
            self.model.actuator_gear[self._actuators, 0] * self.model.actuator_gainprm[self._actuators, 0]
        )
        limited = self.model.actuator_ctrllimited[self._actuators].astype(bool)
        self._lower = np.where(limited, self.model.actuator_ctrlrange[self._actuators, 0], -np.inf)
        self._upper = np.where(limited, self.model.actuator_ctrlrange[self._actuators, 1], np.inf)

    @property
    def state(self) -> Array:
        """State [state_size] now, a copy."""
        return np.concatenate([self.data.qpos[self._positions], self.data.qvel[self._velocities]])

    @property
    def effort(self) -> Array:
        """SI effort [joints] that the actuators apply to each joint of the robot file."""
        return np.array(self.data.qfrc_actuator[self._velocities])

    def reset(self, start: np.random.Generator | Array) -> Array:
        """Puts the robot into an exact state [state_size], or one drawn from the robot file's start distribution.

        The command becomes zero. Returns the state. Raises ValueError on a wrong shape or a non-finite number.
        """
        state = start_state(self.robot, start) if isinstance(start, np.random.Generator) else np.asarray(start, float)
        size = self.robot.spec.state.size
        if state.shape != (size,) or not np.isfinite(state).all():
            raise ValueError(f"start state: got {state.tolist()}, expected {size} finite numbers")
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._positions] = state[: len(self._positions)]
        self.data.qvel[self._velocities] = state[len(self._positions) :]
        mujoco.mj_forward(self.model, self.data)
        return self.state

    def set_command(self, command: Array) -> bool:
        """Holds an SI effort [action_size] from now on. Returns true when it had to be clipped to the ctrlrange.

        Raises ValueError on a wrong shape or a non-finite number, and keeps the old command then.
        """
        values = np.asarray(command, dtype=np.float64)
        size = self.robot.spec.action.size
        if values.shape != (size,) or not np.isfinite(values).all():
            raise ValueError(f"command: got {values.tolist()}, expected {size} finite numbers")
        control = values / self._effort_per_control
        clipped = np.clip(control, self._lower, self._upper)
        self.data.ctrl[self._actuators] = clipped
        # Scaling there and back leaves a rounding error, which is no clipping.
        return bool(np.any(np.abs(control - clipped) > 1e-9 * np.abs(clipped)))

    def advance(self, steps: int = 1) -> None:
        """Integrates `steps` time steps. Raises SimulationError when the state is not finite afterwards."""
        for _ in range(steps):
            mujoco.mj_step(self.model, self.data)
        self._check_finite()

    def advance_time(self, seconds: float) -> None:
        """Integrates `seconds` exactly: whole time steps, then the rest as one shorter step."""
        steps, rest = divmod(seconds, self.timestep)
        self.advance(int(steps))
        if rest > SMALLEST_STEP:
            self.model.opt.timestep = rest
            try:
                self.advance()
            finally:
                self.model.opt.timestep = self.timestep

    def step_control(self) -> Array:
        """Integrates exactly one control period and returns the state [state_size]."""
        self.advance(self._steps_per_control)
        return self.state

    def step(self, action: Array) -> Array:
        """Holds a normalised action [action_size], clipped to its limits, for one control period; returns the state."""
        actions = self.robot.spec.action
        limited = np.clip(action, actions.lower, actions.upper)
        self.set_command(limited * np.array(actions.scale))
        return self.step_control()

    def _check_finite(self) -> None:
        if not (np.isfinite(self.data.qpos).all() and np.isfinite(self.data.qvel).all()):
            raise SimulationError(
                f"simulation of {self.robot.spec.name!r} diverged: state {self.state.tolist()}; reset it"
            )

    def _check_interfaces(self) -> None:
        actions = self.robot.spec.action
        for name, interface, actuator in zip(actions.names, actions.interfaces, self._actuators, strict=True):
            if interface != "effort" or int(self.model.actuator_biastype[actuator]) != int(mujoco.mjtBias.mjBIAS_NONE):
                raise SpecError(
                    f"action {name!r}: interface {interface!r} through actuator"
                    f" {self.model.actuator(int(actuator)).name!r} of {self.robot.mjcf}; simulation drives"
                    " efforts through <motor> actuators only"
                )


def _load(robot: Robot) -> mujoco.MjModel:
    try:
        return mujoco.MjModel.from_xml_path(str(robot.mjcf))
    except ValueError as error:
        raise SpecError(f"{robot.mjcf}: {error}") from None


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
    driven = ", ".join(model.joint(int(model.actuator_trnid[index, 0])).name for index in range(model.nu)) or "none"
    raise SpecError(
        f"robot {robot.spec.name!r}: no actuator of {robot.mjcf} drives joint {model.joint(joint).name!r};"
        f" driven joints there: {driven}"
    )
