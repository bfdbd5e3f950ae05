# SPDX-License-Identifier: Apache-2.0
"""Gravity compensation: the robot bears its own weight, so that a hand can lead it."""

import mujoco
import numpy as np

from mbrl_core.mjcf import load_mjcf
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array


class GravityCompensation:
    """Actions that hold a robot file's MJCF still against gravity and springs: inverse dynamics at rest.

    tau = M(q) 0 + C(q, 0) + g(q) - passive(q): what the actuated joints have to bring. Joints without an actuator are
    left to themselves.
    """

    def __init__(self, robot: Robot) -> None:
        """Raises SpecError and FileNotFoundError as `load_mjcf` does."""
        self._mjcf = load_mjcf(robot)
        self._data = mujoco.MjData(self._mjcf.model)
        self._joints = len(robot.joints)
        self._actuated = self._mjcf.velocities[np.array(robot.action_joints)]
        self._scale = np.array(robot.spec.action.scale)
        self._lower, self._upper = np.array(robot.spec.action.lower), np.array(robot.spec.action.upper)

    def action(self, state: Array) -> Array:
        """Action [action_size], normalised, within limits, in `state` [state_size], whose velocities do not count."""
        data = self._data
        data.qpos[self._mjcf.positions] = state[: self._joints]
        data.qvel[:] = 0.0
        data.qacc[:] = 0.0
        mujoco.mj_inverse(self._mjcf.model, data)
        return np.clip(data.qfrc_inverse[self._actuated] / self._scale, self._lower, self._upper)
