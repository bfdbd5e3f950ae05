# SPDX-License-Identifier: Apache-2.0
"""Efforts for accelerations, by the robot's MJCF."""

import mujoco
import numpy as np

from mbrl_core.mjcf import load_mjcf
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array


class InverseDynamics:
    """Recursive Newton-Euler through MuJoCo (mj_inverse). Raises SpecError, FileNotFoundError as `load_mjcf` does."""

    def __init__(self, robot: Robot) -> None:
        self._mjcf = load_mjcf(robot)
        self._data = mujoco.MjData(self._mjcf.model)
        self._driven = self._mjcf.velocities[list(robot.action_joints)]

    def efforts(self, state: Array, accelerations: Array) -> Array:
        """SI efforts [action_size] of the driven joints that accelerate them so, m/s^2 or rad/s^2 [action_size], in
        `state` [state_size]; the other joints are taken not to accelerate.
        """
        data = self._data
        joints = len(self._mjcf.positions)
        data.qpos[self._mjcf.positions] = state[:joints]
        data.qvel[self._mjcf.velocities] = state[joints:]
        data.qacc[:] = 0.0
        data.qacc[self._driven] = accelerations
        mujoco.mj_inverse(self._mjcf.model, data)
        return np.array(data.qfrc_inverse[self._driven])
