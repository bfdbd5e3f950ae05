# SPDX-License-Identifier: Apache-2.0
"""The true dynamics of a robot of one or two joints, a hundred times as fast as through MuJoCo.

A grid of planners over budgets, robots and seeds rolls out some 10^10 control steps. MuJoCo does about 10^5 in a second
and core here, so the bench integrates the same equations itself, by the same Runge-Kutta method and time step, many
sequences at once. Nothing is written down twice: every coefficient is measured on or read from the MuJoCo model, and
the result is compared with MuJoCo, joint limits included, before it is used.
"""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import mujoco
import mujoco.rollout
import numpy as np
import torch
from numpy.typing import NDArray

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_core.tasks import Task
from mbrl_dynamics.closed_loop import BatchPolicy
from mbrl_planner.planner import Objective
from mbrl_robot.simulation import MujocoSimulation

SOURCE = Path(__file__).with_name("_twin.c")
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS
TOLERANCE = 1e-6  # largest error of a state within a second, relative to its range; MuJoCo's solver stops at 1e-8


class TwinError(RuntimeError):
    """The twin cannot be built, or is not MuJoCo's equal."""


class _Coefficients(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_double) for name in ("a0", "a1", "b0", "b1", "d0", "rotates", "g1", "g2")]
        + [
            ("damping1", ctypes.c_double),
            ("damping2", ctypes.c_double),
            ("gain", (ctypes.c_double * 2) * 2),
            ("timestep", ctypes.c_double),
            ("substeps", ctypes.c_long),
            ("limited", ctypes.c_long),
        ]
        + [
            (name, ctypes.c_double)
            for name in ("lower", "upper", "stiffness", "rate", "least", "most", "width", "inverse_weight")
        ]
        + [("euler", ctypes.c_long)]
        + [(name, ctypes.c_double) for name in ("extra1", "extra2", "recovery")]
    )


def compile_library(folder: Path) -> Path:
    """Compiles the integrator into `folder`. Raises TwinError without a C compiler or when it fails."""
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        raise TwinError("no C compiler (cc, gcc, clang) on the path; the robots' setup needs one too")
    thing, library = folder / "twin.o", folder / "twin.so"
    # Linked apart from compiling: linking with -ffast-math would flush denormals to zero in the whole process.
    for command in (
        [compiler, "-O3", "-march=native", "-ffast-math", "-fPIC", "-c", str(SOURCE), "-o", str(thing)],
        [compiler, "-shared", str(thing), "-o", str(library), "-lm"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TwinError(f"{' '.join(command)}: {done.stderr.strip()}")
    return library


class Twin:
    """Steps of a robot's true dynamics in batches: states [..., state_size] in SI units, actions normalised.

    Raises TwinError when the robot is not one that the integrator describes, by comparison with MuJoCo.
    """

    def __init__(self, robot: Robot, library: Path | None = None) -> None:
        self.robot = robot
        self._simulation = MujocoSimulation(robot)
        self._model, self._data = self._simulation.model, self._simulation.data
        if self._model.nv not in (1, 2) or self._model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4:
            raise TwinError(f"robot {robot.spec.name!r}: expected one or two joints and the Runge-Kutta integrator")
        if library is None:
            with tempfile.TemporaryDirectory(prefix="mbrl_twin_") as folder:
                loaded = ctypes.CDLL(str(compile_library(Path(folder))))
        else:
            loaded = ctypes.CDLL(str(library))
        self._rollout = loaded.twin_rollout
        pointer = ctypes.c_void_p
        self._rollout.argtypes = [pointer, ctypes.c_long, ctypes.c_long, ctypes.c_long, pointer, pointer]
        self._rollout.restype = None
        self._simulation.set_command(np.array(robot.spec.action.scale))
        self._control_per_action = self._data.ctrl.copy()
        # A single joint is the second one beside a first that nothing moves.
        self._columns = [1, 3] if self._model.nv == 1 else None
        self._coefficients = self._measure()
        self.largest_error = self._compare()
        if not self.largest_error < TOLERANCE:
            raise TwinError(f"robot {robot.spec.name!r}: differs from MuJoCo by {self.largest_error:.1e} of the range")

    def rollout(self, start: Array, actions: NDArray[np.float32]) -> Array:
        """States [N, H + 1, state_size] of `actions` [N, H, action_size] from `start` [state_size] or one for each."""
        count, horizon, size = actions.shape
        actions = np.ascontiguousarray(actions, dtype=np.float32)
        states = np.empty((count, horizon + 1, 4))
        if self._columns is None:
            states[:, 0] = start
        else:
            states[:, 0] = 0.0
            states[:, 0, self._columns] = start
        self._rollout(ctypes.byref(self._coefficients), count, horizon, size, actions.ctypes.data, states.ctypes.data)
        return states if self._columns is None else states[..., self._columns]

    def simulated(self, start: Array, actions: NDArray[np.float32]) -> Array:
        """The same as `rollout`, by MuJoCo."""
        model, data, repeat = self._model, self._data, self._coefficients.substeps
        full = np.zeros((len(actions), mujoco.mj_stateSize(model, FULL)))
        size = self.robot.spec.state.size
        full[:, 1 : 1 + size] = start
        control = np.repeat(actions.astype(np.float64) * self._control_per_action, repeat, axis=1)
        mujoco.mj_resetData(model, data)
        later, _ = mujoco.rollout.rollout(model, data, full, control)
        first = np.broadcast_to(full[:, None, 1 : 1 + size], (len(actions), 1, size))
        return np.concatenate([first, later[:, repeat - 1 :: repeat, 1 : 1 + size]], axis=1)

    def _measure(self) -> _Coefficients:
        """Coefficients of the equation of motion, by setting the MuJoCo model into states that show one each."""
        model, data = self._model, self._data
        joints = model.nv

        def at(first: float, second: float) -> tuple[Array, Array]:
            mujoco.mj_resetData(model, data)
            data.qpos[:] = (first, second)[-joints:]
            mujoco.mj_forward(model, data)
            mass, bias, own = np.eye(2), np.zeros(2), np.zeros((joints, joints))
            mujoco.mj_fullM(model, data, own)
            mass[-joints:, -joints:] = own
            bias[-joints:] = data.qfrc_bias
            return mass, bias

        right = 0.5 * np.pi
        straight, bent = at(0.0, 0.0)[0], at(0.0, right)[0]
        rotates = float(joints == 2 and model.jnt_type[0] == mujoco.mjtJoint.mjJNT_HINGE)
        second_gravity = at(0.0, right)[1][1]
        first_gravity = at(right, 0.0)[1][0] - second_gravity if rotates else 0.0
        gain = np.zeros((2, 2))
        for action, value in enumerate(self._control_per_action):
            mujoco.mj_resetData(model, data)
            data.ctrl[action] = value
            mujoco.mj_forward(model, data)
            gain[-joints:, action] = data.qfrc_actuator
        coefficients = _Coefficients(
            a0=bent[0, 0],
            a1=straight[0, 0] - bent[0, 0],
            b0=bent[0, 1],
            b1=straight[0, 1] - bent[0, 1],
            d0=straight[1, 1],
            rotates=rotates,
            g1=first_gravity,
            g2=second_gravity,
            damping1=model.dof_damping[-2] if joints == 2 else 0.0,
            damping2=model.dof_damping[-1],
            timestep=model.opt.timestep,
            substeps=self.robot.simulation.steps_per_control,
            **self._limit(),
        )
        for joint in range(2):
            coefficients.gain[joint][:] = gain[joint]
        return coefficients

    def _limit(self) -> dict[str, float]:
        """Parameters of the one joint limit, as MuJoCo defines them (solref, solimp). Raises TwinError for two."""
        model = self._model
        limited = np.flatnonzero(model.jnt_limited)
        if len(limited) == 0:
            return {"limited": -1}
        joint = int(limited[0])
        time_constant, damping_ratio = model.jnt_solref[joint]
        least, most, width, middle, power = model.jnt_solimp[joint]
        if len(limited) > 1 or time_constant <= 0.0 or (middle, power) != (0.5, 2.0) or model.jnt_margin[joint]:
            raise TwinError(f"robot {self.robot.spec.name!r}: expected one joint limit with MuJoCo's usual parameters")
        time_constant = max(time_constant, 2.0 * model.opt.timestep)
        return {
            "limited": joint + 2 - model.nv,
            "lower": model.jnt_range[joint, 0],
            "upper": model.jnt_range[joint, 1],
            "stiffness": 1.0 / (most * time_constant * damping_ratio) ** 2,
            "rate": 2.0 / (most * time_constant),
            "least": least,
            "most": most,
            "width": width,
            "inverse_weight": model.dof_invweight0[joint],
        }

    def _compare(self) -> float:
        """Largest relative difference to MuJoCo over one second from random states under random actions."""
        random, spec = np.random.default_rng(0), self.robot.spec
        steps, count = round(1.0 / spec.period), 32
        start = random.normal(0.0, 1.0, (count, spec.state.size))
        shape = (count, steps, spec.action.size)
        actions = random.uniform(spec.action.lower, spec.action.upper, shape).astype(np.float32)
        truth = self.simulated(start, actions)
        return float((np.abs(self.rollout(start, actions) - truth).max(axis=(0, 1)) / np.abs(truth).max()).max())


class CountedTwin:
    """A twin that counts the control steps that it was asked for: model calls."""

    def __init__(self, twin: Twin) -> None:
        self.twin, self.calls = twin, 0

    def rollout(self, start: Array, actions: NDArray[np.float32]) -> Array:
        """As `Twin.rollout`."""
        self.calls += actions.shape[0] * actions.shape[1]
        return self.twin.rollout(start, actions)

    def step(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Next states [K, state_size] (float32) of states [K, state_size] and actions [K, action_size]."""
        return torch.from_numpy(self.rollout(states.numpy(), actions.numpy()[:, None])[:, 1]).float()


class TwinObjective(Objective):
    """Returns of action sequences under the true dynamics."""

    def __init__(self, twin: CountedTwin, task: Task) -> None:
        self.twin, self.task = twin, task
        self._states = np.zeros(0)

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        values = actions.numpy()
        self._states = self.twin.rollout(state, values)
        return self._returns(values)

    def closed_loop(
        self, state: Array, policy: BatchPolicy, count: int, horizon: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        states, actions = [np.broadcast_to(state, (count, len(state)))], []
        for index in range(horizon):
            actions.append(policy(torch.from_numpy(states[-1].astype(np.float32))[:, None], index))
            states.append(self.twin.rollout(states[-1], actions[-1].numpy())[:, 1])
        self._states, sequences = np.stack(states, axis=1), torch.cat(actions, dim=1)
        return self._returns(sequences.numpy()), sequences

    def _returns(self, actions: NDArray[np.float32]) -> torch.Tensor:
        rewards = self.task.reward(self._states[:, :-1], actions, self._states[:, 1:])
        returns = rewards.sum(axis=-1)
        return torch.from_numpy(np.where(np.isfinite(returns), returns, -np.inf).astype(np.float32))

    def prediction(self, index: int) -> tuple[Array, Array]:
        return self._states[index], np.zeros_like(self._states[index])

    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        states = self.twin.twin.rollout(state, np.asarray(actions, dtype=np.float32)[None])[0]
        return states, np.zeros_like(states)
