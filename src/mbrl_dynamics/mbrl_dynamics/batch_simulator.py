# SPDX-License-Identifier: Apache-2.0
"""Many rollouts of one MJCF at once, on a pool of threads."""

import mujoco
import mujoco.rollout
import numpy as np

from mbrl_core.mjcf import RobotMjcf
from mbrl_core.specs import Array

FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS
# One step of a small robot takes 5 us and waking the pool 50 us: fewer steps than this are faster on one thread.
LEAST_STEPS_FOR_THREADS = 64


class BatchSimulator:
    """Rolls controls through the MJCF from given states. One caller at a time: buffers and MuJoCo's data are reused.

    Raises ValueError when the MJCF has a state beside that of the robot file: it could not be set.
    """

    def __init__(self, mjcf: RobotMjcf) -> None:
        model = mjcf.model
        joints = len(mjcf.positions)
        if (model.nq, model.nv, model.na) != (joints, joints, 0):
            raise ValueError(
                f"{model.nq} positions, {model.nv} velocities and {model.na} activations in the MJCF,"
                f" expected the robot file's {joints} joints and nothing else"
            )
        self.mjcf = mjcf
        self._columns = np.concatenate([1 + mjcf.positions, 1 + model.nq + mjcf.velocities])  # after the time
        self._width = mujoco.mj_stateSize(model, FULL)
        self._datas: list[mujoco.MjData] = []
        self._pool: mujoco.rollout.Rollout | None = None
        self._control = np.zeros((0, 0, model.nu))
        self._start = np.zeros((0, self._width))
        self._output = np.zeros((0, 0, self._width))

    def run(self, state: Array, control: Array, threads: int) -> Array:
        """States [B, H, state_size] at the end of each control period.

        state [B, state_size] at the start, control [B, H, action_size] held for one period each, both finite; as
        MuJoCo's controls. A rollout that diverges is NaN from there on.
        """
        count, horizon, _ = control.shape
        repeat = self.mjcf.steps_per_control
        steps = horizon * repeat
        if count * steps < LEAST_STEPS_FOR_THREADS:
            threads = 1
        self._prepare(count, steps, threads)
        self._start[:, self._columns] = state
        self._control.reshape(count, horizon, repeat, -1)[..., self.mjcf.actuators] = control[:, :, None]
        pool = self._pool
        assert pool is not None
        pool.rollout(self.mjcf.model, self._datas, self._start, self._control, state=self._output)
        ends = self._output[:, repeat - 1 :: repeat]
        states: Array = ends[..., self._columns]
        # MuJoCo stops a rollout that diverges and repeats its last state: time no longer advances there.
        if (ends[:, -1, 0] < (steps - 0.5) * self.mjcf.model.opt.timestep).any():
            expected = self.mjcf.model.opt.timestep * (repeat * np.arange(1, horizon + 1) - 0.5)
            states[ends[..., 0] < expected] = np.nan
        return states

    def _prepare(self, count: int, steps: int, threads: int) -> None:
        model = self.mjcf.model
        if self._pool is None or len(self._datas) != threads:
            self._datas = [mujoco.MjData(model) for _ in range(threads)]
            self._pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        if self._output.shape[:2] != (count, steps):
            self._control = np.zeros((count, steps, model.nu))
            self._start = np.zeros((count, self._width))
            self._output = np.empty((count, steps, self._width))
