# SPDX-License-Identifier: Apache-2.0
"""The true dynamics of a robot in DART, in closed form and many at once, for planners that know them.

DART integrates the same equation of motion as MuJoCo by semi-implicit Euler steps with implicit damping, and stops
joints at their limits by impulses. The coefficients are measured on the MuJoCo model, as those of `Twin`; what comes
out is compared with DART, joint limits included, before it is used.
"""

from pathlib import Path

import numpy as np
from _twin import Twin, _Coefficients
from numpy.typing import NDArray

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.dart_simulation import DartSimulation

RECOVERY = 0.01  # DART's error reduction parameter of joint limits


class DartTwin(Twin):
    """Steps of a robot's dynamics in DART, in batches. Raises TwinError where it is not DART's equal."""

    def __init__(self, robot: Robot, library: Path | None = None) -> None:
        self._dart = DartSimulation(robot)
        super().__init__(robot, library)

    def _measure(self) -> _Coefficients:
        found = super()._measure()
        found.euler, found.recovery = 1, RECOVERY
        found.timestep = self._dart.timestep
        found.substeps = round(self.robot.spec.period / found.timestep)
        found.extra1, found.extra2 = found.timestep * found.damping1, found.timestep * found.damping2
        return found

    def simulated(self, start: Array, actions: NDArray[np.float32]) -> Array:
        """The same as `rollout`, by DART."""
        count, horizon, _ = actions.shape
        states = np.empty((count, horizon + 1, self.robot.spec.state.size))
        for row, first in enumerate(np.broadcast_to(start, (count, states.shape[-1]))):
            states[row, 0] = self._dart.reset(first)
            for step, action in enumerate(actions[row]):
                states[row, step + 1] = self._dart.step(action)
        return states
