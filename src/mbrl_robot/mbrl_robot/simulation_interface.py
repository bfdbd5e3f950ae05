# SPDX-License-Identifier: Apache-2.0
"""What a simulation of a robot file offers, whichever physics computes it."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from mbrl_core.robot_file import Robot, start_state
from mbrl_core.specs import Array

if TYPE_CHECKING:
    from mbrl_robot.simulated_sensors import Reading

# An answer to "how long is left" below this is rounding, not time.
SMALLEST_STEP = 1e-7
# Random stream that an episode's start state is drawn from.
START_STREAM = "start_state"


class SimulationError(RuntimeError):
    """The simulation has no finite state any more, or what computes it is gone. A reset begins anew."""


class Simulation(Protocol):
    """A simulated robot. States are the whole ones [whole_size] of the robot file: positions in its joint order, then
    velocities, then what its sensors measure; SI units. A start is positions and velocities [2 joints] alone. Commands
    are SI efforts, velocities or positions [action_size], as the robot file's interface says, clipped to the
    actuators' range.
    """

    @property
    def timestep(self) -> float:
        """Of the integration, in s."""

    @property
    def sample_period(self) -> float:
        """Seconds between two joint states in realtime."""

    @property
    def processes(self) -> tuple[int, ...]:
        """Ids of other processes that compute for this one, and have to keep its deadlines."""

    @property
    def state(self) -> Array:
        """Whole state [whole_size] now, a copy."""

    def readings(self) -> list["Reading"]:
        """What the sensors of the robot file say now."""

    @property
    def effort(self) -> Array:
        """SI effort [joints] that the actuators apply to each joint of the robot file."""

    def reset(self, start: np.random.Generator | Array) -> Array:
        """Puts the robot into an exact state [state_size], or one drawn from the robot file's start distribution.

        The command becomes that of `stop`. Returns the state. Raises ValueError on a wrong shape or a non-finite
        number, and SimulationError where nothing can be simulated.
        """

    def stop(self) -> None:
        """Commands rest: no effort, no velocity, or the position that each joint is at now."""

    def set_command(self, command: Array) -> bool:
        """Holds an SI command [action_size] from now on. Returns true when it had to be clipped.

        Raises ValueError on a wrong shape or a non-finite number, and keeps the old command then.
        """

    def advance_time(self, seconds: float) -> None:
        """Integrates `seconds` exactly: whole time steps, then the rest as one shorter step.

        Raises SimulationError.
        """

    def step_control(self) -> Array:
        """Integrates exactly one control period and returns the state [whole_size]. Raises SimulationError."""


def checked_start(robot: Robot, start: np.random.Generator | Array) -> Array:
    """The state [2 joints] to start from, drawn where a generator is given. Raises ValueError."""
    state = start_state(robot, start) if isinstance(start, np.random.Generator) else np.asarray(start, float)
    size = 2 * len(robot.joints)
    if state.shape != (size,) or not np.isfinite(state).all():
        raise ValueError(f"start state: got {state.tolist()}, expected {size} finite numbers")
    return state


def checked_command(robot: Robot, command: Array) -> Array:
    """The command [action_size] as double precision. Raises ValueError on a wrong shape or a non-finite number."""
    values = np.asarray(command, dtype=np.float64)
    size = robot.spec.action.size
    if values.shape != (size,) or not np.isfinite(values).all():
        raise ValueError(f"command: got {values.tolist()}, expected {size} finite numbers")
    return values
