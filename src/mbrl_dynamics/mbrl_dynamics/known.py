# SPDX-License-Identifier: Apache-2.0
"""Known dynamics: MuJoCo itself as a model kind."""

import copy
import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import parameter
from mbrl_core.dataset import Transitions
from mbrl_core.observation import require_plain
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array, RobotSpec, SpecError
from mbrl_dynamics.derivatives import central_hessians
from mbrl_dynamics.model import (
    HESSIAN_WIDTH,
    DynamicsModel,
    FitReport,
    GaussianPrediction,
    KeepGoing,
    ModelError,
    check_arrays,
)
from mbrl_dynamics.registry import DYNAMICS

# Of central differences. The constraint solver at a joint's limit is exact to about 1e-8: smaller steps would show it.
DIFFERENCE = 1e-4


@dataclass(frozen=True)
class MujocoConfig:
    """Parameters of the known dynamics."""

    robot_file: str = parameter("", "path of the robot file, which names the MJCF", read_only=True)
    substeps: int = parameter(
        1, "each MJCF time step is cut into so many, as the simulation's realtime_substeps", minimum=1, maximum=100
    )
    threads: int = parameter(0, "threads of a rollout; 0 = as many as torch may use", minimum=0, maximum=256)


@DYNAMICS.register("mujoco", MujocoConfig)
class Mujoco(DynamicsModel):
    """The simulation that the robot file names, as a model of one member without noise: the oracle.

    State and actions are those of mbrl_robot's simulation. Computes in double precision; results have the precision
    of the state that was asked about, so float64 in gives what the simulation gives. Open-loop candidates go through
    `trajectories` on several threads, policies inside the plan through `predict` and `stepper`, a batch at a time.
    A row with a non-finite state or action, or that diverges, is predicted as NaN.

    Raises ModelError when the robot file, its MJCF, or what it says of `spec` does not fit.
    """

    kind = "mujoco"
    learns = False
    deterministic = True
    precision = torch.float64

    def __init__(self, configuration: MujocoConfig, spec: RobotSpec, seed: int) -> None:
        if not configuration.robot_file:
            raise ModelError("parameter 'dynamics.robot_file': got '', expected the path of the robot file")
        path = Path(configuration.robot_file).expanduser().absolute()
        super().__init__(dataclasses.replace(configuration, robot_file=str(path)), spec, members=1)
        # Importing MuJoCo takes a third of a second, which processes with a learned model need not spend.
        from mbrl_core.mjcf import load_mjcf, mjcf_hash
        from mbrl_dynamics.bare_mjcf import bare
        from mbrl_dynamics.batch_simulator import BatchSimulator

        try:
            robot = load_robot(path)
            if robot.spec.interface_hash != spec.interface_hash:
                raise SpecError(f"is of the robot {robot.spec.name!r}, expected the interface of {spec.name!r}")
            require_plain(robot.observation.plain, robot.spec.name, "planning through MuJoCo")
            mjcf = load_mjcf(robot, configuration.substeps)
            self._simulator = BatchSimulator(bare(mjcf, robot.mjcf) if robot.mjcf else mjcf)
            physics = f"{mjcf_hash(robot)}/{robot.simulation.steps_per_control}/{configuration.substeps}"
        except (SpecError, FileNotFoundError, ValueError) as error:
            raise ModelError(f"parameter 'dynamics.robot_file': {path}: {error}") from None
        self._physics = np.frombuffer(physics.encode(), dtype=np.uint8).copy()

    def predict(self, state: Tensor, action: Tensor) -> GaussianPrediction:
        action = action.expand(*state.shape[:-1], -1)
        if torch.is_grad_enabled() and (state.requires_grad or action.requires_grad):
            mean = _DifferentiableStep.apply(self, state, action)
        else:
            mean = self._step(state, action)
        mean = mean if mean.dim() == 3 else mean[None]
        return GaussianPrediction(mean, torch.zeros_like(mean))

    def _step(self, state: Tensor, action: Tensor) -> Tensor:
        """Next states [..., state_size] of states and actions of the same leading shape."""
        rows, size = state.shape[:-1], state.shape[-1]
        actions = action.detach().reshape(-1, 1, action.shape[-1])
        result = self._run(state.detach().reshape(-1, size).numpy(), actions.numpy())
        return torch.from_numpy(result.reshape(*rows, size)).to(state.dtype)

    def _run(self, state: np.ndarray, action: np.ndarray) -> Array:
        """States [B, H, state_size] from state [B, state_size] under normalised actions [B, H, action_size]."""
        lower, upper = self._action_limits()
        control = self._simulator.mjcf.control(
            np.clip(action.astype(np.float64), lower, upper) * np.array(self.spec.action.scale)
        )
        bad = ~(np.isfinite(state).all(axis=-1) & np.isfinite(control).all(axis=(1, 2)))
        if bad.any():
            # MuJoCo would take a control that is not a number for zero.
            state, control = np.where(bad[:, None], 0.0, state), np.where(bad[:, None, None], 0.0, control)
        states = self._simulator.run(state, control, self.configuration.threads or torch.get_num_threads())
        states[bad] = np.nan
        return states

    def _action_limits(self) -> tuple[Array, Array]:
        return np.array(self.spec.action.lower), np.array(self.spec.action.upper)

    def trajectories(
        self,
        state: Tensor,
        actions: Tensor,
        particles: int,
        propagation: str,
        generator: torch.Generator,
        keep_going: KeepGoing | None,
        precision: str,
    ) -> Tensor:
        """The whole horizon in one call of MuJoCo; all particles are the same memory. See `DynamicsModel`."""
        count, horizon, _ = actions.shape
        states = torch.empty(count, 1, horizon + 1, state.shape[-1], dtype=state.dtype)
        states[:, :, 0] = state
        start = np.broadcast_to(state.detach().numpy(), (count, state.shape[-1]))
        states[:, 0, 1:] = torch.from_numpy(self._run(start, actions.detach().numpy()))
        return states.expand(-1, 1 if propagation == "mean" else particles, -1, -1)

    def jacobians(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Central differences in double precision, all in one call of MuJoCo; see `DynamicsModel.jacobians`.

        Beside an action's limit the difference is one-sided: the derivative towards the actions that exist.
        """
        states, actions = state.detach().numpy().astype(np.float64), action.detach().numpy().astype(np.float64)
        size, inputs = states.shape[-1], states.shape[-1] + actions.shape[-1]
        at = np.concatenate([states, np.clip(actions, *self._reachable_actions())], axis=-1)
        ends = np.stack([at[:, None] + sign * DIFFERENCE * np.eye(inputs) for sign in (1.0, -1.0)])
        ends[..., size:] = np.clip(ends[..., size:], *self._reachable_actions())
        rows = ends.reshape(-1, inputs)
        later = self._run(rows[:, :size], rows[:, None, size:]).reshape(2, len(at), inputs, size)
        width = np.einsum("kii->ki", (ends[0] - ends[1]))
        by_input = ((later[0] - later[1]) / width[..., None]).swapaxes(-1, -2)
        result = torch.from_numpy(by_input).to(state.dtype)[None]
        return result[..., :size].contiguous(), result[..., size:].contiguous()

    def hessians(self, state: Tensor, action: Tensor) -> Tensor:
        """Central differences of `jacobians`; see `DynamicsModel.hessians`."""
        return central_hessians(self.jacobians, state, action, HESSIAN_WIDTH)

    def _reachable_actions(self) -> tuple[Array, Array]:
        """Normalised actions [action_size] that neither the robot's limits nor the actuators' ranges cut."""
        mjcf, scale = self._simulator.mjcf, np.array(self.spec.action.scale)
        ends = np.sort(np.stack([mjcf.control_lower, mjcf.control_upper]) * (mjcf.command_per_control / scale), axis=0)
        lower, upper = self._action_limits()
        return np.maximum(lower, ends[0]), np.minimum(upper, ends[1])

    def fit(self, transitions: Transitions, seed: int, keep_going: KeepGoing | None = None) -> FitReport:
        """Has nothing to learn; reports that it has seen the transitions. The loss is NaN: there is none."""
        begin = time.perf_counter()
        if len(transitions) < 2:
            raise ValueError(f"mujoco model: got {len(transitions)} transitions, expected at least 2 to fit")
        return FitReport(math.nan, 0, len(transitions), time.perf_counter() - begin)

    def clone(self) -> "Mujoco":
        """Shares the MJCF, which nobody changes; buffers are its own."""
        twin = copy.copy(self)
        twin._simulator = type(self._simulator)(self._simulator.mjcf)
        return twin

    def state_arrays(self) -> dict[str, np.ndarray]:
        """What tells whether another process simulates the same: `physics`, a text in bytes."""
        return {"physics": self._physics.copy()}

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises ModelError when they are of other physics than the robot file here."""
        check_arrays(arrays, {"physics": arrays.get("physics", self._physics).shape}, self.kind)
        if not np.array_equal(arrays["physics"], self._physics):
            raise ModelError(
                f"mujoco model: physics {_text(arrays['physics'])}, but those of {self.configuration.robot_file} here"
                f" are {_text(self._physics)} (sha256 of the MJCF/steps per control/substeps)"
            )


class _DifferentiableStep(torch.autograd.Function):
    """A step whose gradient is that of `Mujoco.jacobians`."""

    @staticmethod
    def forward(ctx: Any, model: Mujoco, state: Tensor, action: Tensor) -> Tensor:
        ctx.model = model
        ctx.save_for_backward(state, action)
        return model._step(state, action)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        state, action = ctx.saved_tensors
        by_state, by_action = ctx.model.jacobians(state.flatten(0, -2), action.flatten(0, -2))
        rows = gradient.reshape(-1, 1, gradient.shape[-1])
        return None, (rows @ by_state[0]).view_as(state), (rows @ by_action[0]).view_as(action)


def _text(values: np.ndarray) -> str:
    return repr(bytes(values.astype(np.uint8)).decode("ascii", errors="replace"))
