# SPDX-License-Identifier: Apache-2.0
"""A MuJoCo simulation of a robot file: state in the robot file's order, commands in SI units, exact steps."""

import mujoco
import numpy as np

from mbrl_core.command_interfaces import rest_action
from mbrl_core.mjcf import load_mjcf
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.simulated_sensors import Reading, SimulatedSensors
from mbrl_robot.simulation_interface import SMALLEST_STEP, SimulationError, checked_command, checked_start


class MujocoSimulation:
    """Simulates the robot's MJCF; a `simulation_interface.Simulation`.

    The state is the whole one [whole_size] of the robot file: positions in its joint order, velocities, then what its
    sensors measure; SI units. A start is positions and velocities [2 joints] alone: the rest follows from them.
    Commands are SI efforts, velocities or positions [action_size], as the robot file's interface says, converted
    through each actuator's gear and gains and clipped to its ctrlrange.

    Raises SpecError when the robot file names no MJCF, or a joint, actuator or sensor that the MJCF lacks, or a
    joint or actuator of the wrong type; FileNotFoundError when the MJCF does not exist.
    """

    processes: tuple[int, ...] = ()

    def __init__(self, robot: Robot, substeps: int = 1) -> None:
        self.robot = robot
        self._mjcf = load_mjcf(robot, substeps)
        self.model = self._mjcf.model
        self.timestep = self.sample_period = float(self.model.opt.timestep)
        self.data = mujoco.MjData(self.model)
        self._positions, self._velocities = self._mjcf.positions, self._mjcf.velocities
        self._sensors = SimulatedSensors(robot, self.model)

    @property
    def state(self) -> Array:
        """Whole state [whole_size] now, a copy."""
        joints = np.concatenate([self.data.qpos[self._positions], self.data.qvel[self._velocities]])
        if not self.robot.estimation.sensors:
            return joints
        return np.concatenate([joints, self._sensors.values(self.data)])

    def readings(self) -> list[Reading]:
        """What the sensors of the robot file say now."""
        return self._sensors.readings(self.data)

    @property
    def effort(self) -> Array:
        """SI effort [joints] that the actuators apply to each joint of the robot file."""
        return np.array(self.data.qfrc_actuator[self._velocities])

    def reset(self, start: np.random.Generator | Array) -> Array:
        """Puts the robot into an exact state [2 joints], or one drawn from the robot file's start distribution.

        The command becomes that of `stop`. Returns the state. Raises ValueError on a wrong shape or a non-finite
        number.
        """
        state = checked_start(self.robot, start)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._positions] = state[: len(self._positions)]
        self.data.qvel[self._velocities] = state[len(self._positions) :]
        self.stop()
        mujoco.mj_forward(self.model, self.data)
        return self.state

    def stop(self) -> None:
        """Commands rest: no effort, no velocity, or the position that each joint is at now."""
        positions = self.data.qpos[self._positions][list(self.robot.action_joints)]
        command = rest_action(self.robot.interface, self.robot.spec.action.size, positions)
        assert command is not None
        self.data.ctrl[self._mjcf.actuators] = self._mjcf.control(command)

    def set_command(self, command: Array) -> bool:
        """Holds an SI command [action_size] from now on. Returns true when it had to be clipped to the ctrlrange.

        Raises ValueError on a wrong shape or a non-finite number, and keeps the old command then.
        """
        values = checked_command(self.robot, command)
        clipped = self._mjcf.control(values)
        self.data.ctrl[self._mjcf.actuators] = clipped
        # Scaling there and back leaves a rounding error, which is no clipping.
        control = values / self._mjcf.command_per_control
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
        """Integrates exactly one control period and returns the state [whole_size]."""
        self.advance(self._mjcf.steps_per_control)
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
