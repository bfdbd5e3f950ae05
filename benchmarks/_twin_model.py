# SPDX-License-Identifier: Apache-2.0
"""A twin as a dynamics model: planners and training algorithms see the true dynamics without waiting for MuJoCo."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from _twin import Twin
from torch import Tensor

from mbrl_core.dataset import Transitions
from mbrl_core.specs import Array
from mbrl_dynamics.model import DynamicsModel, FitReport, GaussianPrediction, KeepGoing

DIFFERENCES = 1e-4, 1e-2  # of states and actions; the twin takes actions in single precision


class TwinModel(DynamicsModel):
    """The true dynamics in double precision: one member, no noise, nothing to learn."""

    kind = "twin"
    learns = False
    deterministic = True
    precision = torch.float64

    def __init__(self, twin: Twin) -> None:
        super().__init__(None, twin.robot.spec, members=1)
        self.twin = twin

    def predict(self, state: Tensor, action: Tensor) -> GaussianPrediction:
        """See `DynamicsModel.predict`; without gradients."""
        mean = self._step(state.reshape(-1, state.shape[-1]), action.reshape(-1, action.shape[-1]))
        mean = mean.to(state.dtype)[None]
        return GaussianPrediction(mean, torch.zeros_like(mean))

    def _step(self, state: Tensor, action: Tensor) -> Tensor:
        rows = self.twin.rollout(state.detach().numpy().astype(np.float64), action.detach().numpy()[:, None])
        return torch.from_numpy(np.array(rows[:, 1]))

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
        """The whole horizon in one call; see `DynamicsModel.trajectories`."""
        rolled = torch.from_numpy(self.twin.rollout(state.numpy().astype(np.float64), actions.numpy()))
        return rolled.to(state.dtype)[:, None].expand(-1, 1 if propagation == "mean" else particles, -1, -1)

    def jacobians(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Central differences, all in one call; see `DynamicsModel.jacobians`."""
        size, inputs = state.shape[-1], state.shape[-1] + action.shape[-1]
        at = np.concatenate([state.numpy(), action.numpy()], axis=-1).astype(np.float64)
        steps = np.diag([DIFFERENCES[0]] * size + [DIFFERENCES[1]] * (inputs - size))
        ends = np.stack([at[:, None] + sign * steps for sign in (1.0, -1.0)])
        ends[..., size:] = ends[..., size:].astype(np.float32)
        rows = ends.reshape(-1, inputs)
        later = self.twin.rollout(rows[:, :size], rows[:, None, size:])[:, 1].reshape(2, len(at), inputs, size)
        width = np.einsum("kii->ki", ends[0] - ends[1])
        by_input = torch.from_numpy(((later[0] - later[1]) / width[..., None]).swapaxes(-1, -2)).to(state.dtype)[None]
        return by_input[..., :size].contiguous(), by_input[..., size:].contiguous()

    def fit(self, transitions: Transitions, seed: int, keep_going: KeepGoing | None = None) -> FitReport:
        """Has nothing to learn."""
        return FitReport(math.nan, 0, len(transitions), 0.0)

    def state_arrays(self) -> dict[str, Array]:
        """Nothing."""
        return {}

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing."""
