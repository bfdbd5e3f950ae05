# SPDX-License-Identifier: Apache-2.0
"""A simulation whose commands act later than they come, stepped by control periods."""

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.command_delay import CommandDelay
from mbrl_robot.simulation_interface import Simulation


class DelayedSimulation:
    """A simulation that is stepped by control periods, as offline trials and lockstep do it: each command acts
    `simulation.command_delay` of the robot file later than it was given, exactly.
    """

    def __init__(self, simulation: Simulation, robot: Robot) -> None:
        self.simulation, self._robot = simulation, robot
        self._period_ns = round(robot.spec.period * 1e9)
        self._commands = CommandDelay(round(robot.simulation.command_delay * 1e9))
        self._time_ns = 0

    def reset(self, start: np.random.Generator | Array) -> Array:
        """As `Simulation.reset`; what was on its way is forgotten."""
        state = self.simulation.reset(start)
        self._commands.clear()
        self._time_ns = 0
        return state

    def step(self, action: Array) -> Array:
        """Gives a normalised action [action_size], clipped to its limits, and lets a control period pass."""
        actions = self._robot.spec.action
        return self.step_command(np.clip(action, actions.lower, actions.upper) * np.array(actions.scale))

    def step_command(self, command: Array) -> Array:
        """Gives a command in SI units [action_size] and lets a control period pass. Raises as `Simulation`."""
        self._commands.push(self._time_ns, np.array(command, dtype=np.float64))
        end_ns = self._time_ns + self._period_ns
        for due, duration_ns in self._commands.pieces(self._time_ns, end_ns):
            if due is not None:
                self.simulation.set_command(due)
            if duration_ns == self._period_ns:
                self.simulation.step_control()
            else:
                self.simulation.advance_time(duration_ns * 1e-9)
        self._time_ns = end_ns
        return self.simulation.state
