# SPDX-License-Identifier: Apache-2.0
"""Where the tip of a robot is, how uncertain that is, and where a task's workspace lies: by the robot's MJCF."""

from itertools import permutations

import mujoco
import numpy as np

from mbrl_core.mjcf import load_mjcf
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, SpecError
from mbrl_core.task import Task

TIP = "tip"
# States that a task's idea of the tip is compared at, and how far from it the MJCF's may be, m.
PROBES = 8
TOLERANCE = 1e-6


class TipKinematics:
    """Forward kinematics of the site `tip`, in the frame `world` that robot_state_publisher's tree begins with.

    Raises SpecError where the robot file names no MJCF, or one without that site.
    """

    def __init__(self, robot: Robot) -> None:
        self._mjcf = load_mjcf(robot)
        self._joints = len(robot.joints)
        self._data = mujoco.MjData(self._mjcf.model)
        self._site = mujoco.mj_name2id(self._mjcf.model, mujoco.mjtObj.mjOBJ_SITE, TIP)
        if self._site < 0:
            raise SpecError(f"robot {robot.spec.name!r}: mjcf {robot.mjcf} has no site {TIP!r}")

    def tip(self, state: Array) -> Array:
        """Position [3] (m) of the tip at a state [state_size]."""
        self._data.qpos[self._mjcf.positions] = state[: self._joints]
        mujoco.mj_kinematics(self._mjcf.model, self._data)
        return np.array(self._data.site_xpos[self._site])

    def covariance(self, state: Array, std: Array) -> Array:
        """Covariance [3, 3] (m^2) of the tip to first order, J diag(std^2) J^T, at a state [state_size] whose variables
        have the standard deviations `std` [state_size] and are taken to be independent.
        """
        self.tip(state)
        mujoco.mj_comPos(self._mjcf.model, self._data)
        jacobian = np.zeros((3, self._mjcf.model.nv))
        mujoco.mj_jacSite(self._mjcf.model, self._data, jacobian, None, self._site)
        scaled = jacobian[:, self._mjcf.velocities] * std[: self._joints]
        return np.asarray(scaled @ scaled.T)

    def workspace(self, task: Task) -> tuple[tuple[int, ...], Array] | None:
        """Axes of the world that the coordinates of a task's obstacles run along, and its origin [3] there.

        Found by comparing where the task has the tip with where the MJCF has it; None where no axes agree.
        """
        size = task.workspace_size
        if size == 0:
            return None
        random = np.random.default_rng(0)
        states = random.uniform(-1.0, 1.0, (PROBES, task.state_size))
        tips = np.array([self.tip(state) for state in states])
        told = np.stack(
            [np.broadcast_to(value, PROBES) for value in task.chain(states)[-1].position], axis=-1, dtype=float
        )
        for axes in permutations(range(3), size):
            apart = tips[:, axes] - told
            if np.abs(apart - apart[0]).max() < TOLERANCE:
                origin = np.zeros(3)
                origin[list(axes)] = apart[0]
                return axes, origin
        return None


def ellipsoid(covariance: Array) -> tuple[Array, Array]:
    """Half axes [3] (m), one standard deviation long, and rotation [3, 3] (its columns are the axes) of a covariance
    [3, 3] (m^2).
    """
    variances, rotation = np.linalg.eigh(covariance)
    if np.linalg.det(rotation) < 0.0:
        rotation[:, 0] *= -1.0
    return np.sqrt(np.maximum(variances, 0.0)), rotation
