# SPDX-License-Identifier: Apache-2.0
"""What a learned dynamics model is to everyone who uses one."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import to_mapping
from mbrl_core.dataset import Transitions
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.derivatives import central_hessians, step_hessians, step_jacobians

HESSIAN_WIDTH = 1e-3  # of differences of Jacobians: single precision leaves an error of 1e-4 of them

KeepGoing = Callable[[], bool]


class FitInterrupted(RuntimeError):
    """A fit was told to stop before its end; the model is in between."""


class RolloutInterrupted(RuntimeError):
    """A rollout was told to stop before its end."""


class ModelError(ValueError):
    """A model cannot be built or restored. The text names what came and what was expected."""


@dataclass(frozen=True)
class GaussianPrediction:
    """Next state by each member: mean and variance [members, B, state_size], SI units.

    The variance is that of the noise; the spread of the means across members is what the model does not know.
    Angles go on from those of the state that was asked about; they are not wrapped.
    """

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class FitReport:
    """What a fit did. `loss` in nats per transition, at the end; `seconds` of wall time."""

    loss: float
    steps: int
    transitions: int
    seconds: float


class Stepper:
    """One step for the rollout's inner loop. Rows are last, which is what the processor wants: [members, size, rows].

    This one serves any model; kinds with something faster override `DynamicsModel.stepper`.
    """

    def __init__(self, model: "DynamicsModel") -> None:
        self._model = model

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the next state, each [members, state_size, rows].

        state [members, state_size, rows], action [members, action_size, rows]. The result may be overwritten by the
        next call.
        """
        prediction = self._model.predict(state.transpose(1, 2), action.transpose(1, 2))
        return prediction.mean.transpose(1, 2), prediction.variance.sqrt().transpose(1, 2)


class DynamicsModel(ABC):
    """A probabilistic model of the change of state, possibly with several members; float32 throughout."""

    kind: ClassVar[str] = ""
    learns: ClassVar[bool] = True
    """False for known dynamics: fits change nothing."""
    precision: ClassVar[torch.dtype] = torch.float32
    """Of the states that derivatives and deterministic rollouts are asked for."""
    deterministic: ClassVar[bool] = False
    """True when the variance is always zero: with one member, one particle then says all."""

    def __init__(self, configuration: Any, spec: RobotSpec, members: int) -> None:
        self.configuration = configuration
        self.spec = spec
        self.members = members

    @abstractmethod
    def predict(self, state: Tensor, action: Tensor) -> GaussianPrediction:
        """Predicts the next state.

        state [B, state_size] or [members, B, state_size] in SI units, action likewise [..., action_size] in normalised
        units; without the leading dimension every member sees the same rows. Differentiable.
        """

    @abstractmethod
    def fit(self, transitions: Transitions, seed: int, keep_going: KeepGoing | None = None) -> FitReport:
        """Learns from all of `transitions`, going on from what it knows. Same seed and data: same result.

        `keep_going` is asked often; once it is false the fit raises FitInterrupted. Raises ValueError on fewer than two
        transitions.
        """

    @abstractmethod
    def state_arrays(self) -> dict[str, np.ndarray]:
        """Everything learned, as arrays: weights, normalisation, and what a later fit goes on from."""

    @abstractmethod
    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restores `state_arrays`. Raises ModelError on a missing array, a wrong shape or a non-finite number."""

    def held_out(self, count: int, seed: int) -> np.ndarray:
        """Which of the first `count` transitions a member does not see in fits with `seed`: bool [members, count].

        Errors there are honest although the model as a whole was trained on everything.
        """
        return np.zeros((self.members, count), dtype=bool)

    def stepper(self, rows: int) -> Stepper:
        """A step for `rows` rows a member, at the present weights. Calls may share one: for one rollout at a time."""
        return Stepper(self)

    def trajectories(
        self,
        state: Tensor,
        actions: Tensor,
        particles: int,
        propagation: str,
        generator: torch.Generator,
        keep_going: KeepGoing | None,
        precision: str,
    ) -> Tensor | None:
        """The whole rollout at once, by kinds that have something faster than one step after another.

        Arguments are those of `rollout`, already checked. Returns states [N, P, H + 1, state_size], the same numbers,
        within dtype, as stepping gives; or None when this kind, or this machine, has nothing faster.
        """
        return None

    def to(self, device: torch.device) -> "DynamicsModel":
        """An independent copy that predicts on `device`. Raises ModelError for kinds that cannot."""
        raise ModelError(f"a model of kind {self.kind!r} cannot compute on {device}")

    def clone(self) -> "DynamicsModel":
        """An independent copy, for a fit in the background."""
        return copy.deepcopy(self)

    def configuration_mapping(self) -> dict[str, Any]:
        """`kind` and parameters: enough to build the model again."""
        return {"kind": self.kind, **to_mapping(self.configuration)}

    def jacobians(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of the mean next state at state [B, state_size] and action [B, action_size].

        Returns [members, B, state_size, state_size] and [members, B, state_size, action_size].
        """
        by_step = step_jacobians(self._step_mean, *self._for_members(state, action))
        if by_step is None:
            raise NotImplementedError(f"{self.kind} model: predict has no graph; it needs jacobians of its own")
        return by_step

    def hessians(self, state: Tensor, action: Tensor) -> Tensor:
        """Second derivatives of the mean next state at state [B, state_size] and action [B, action_size].

        Returns [members, B, state_size, state_size + action_size, state_size + action_size], states before actions.
        Kinds whose `predict` has no graph get them from differences of `jacobians`.
        """
        curvature = step_hessians(self._step_mean, *self._for_members(state, action))
        return central_hessians(self.jacobians, state, action, HESSIAN_WIDTH) if curvature is None else curvature

    def _step_mean(self, state: Tensor, action: Tensor) -> Tensor:
        return self.predict(state, action).mean

    def _for_members(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """One copy of the rows for each member, so that members' gradients do not add up."""
        return state.expand(self.members, *state.shape), action.expand(self.members, *action.shape)


def check_arrays(arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], kind: str) -> None:
    """Raises ModelError unless `arrays` has exactly the expected names and shapes, all finite."""
    for name, shape in expected.items():
        if name not in arrays:
            raise ModelError(f"{kind} model: array {name!r} is missing; got {', '.join(sorted(arrays)) or 'none'}")
        if arrays[name].shape != shape:
            got = list(arrays[name].shape)
            raise ModelError(f"{kind} model: array {name!r} has shape {got}, expected {list(shape)}")
        if not np.isfinite(arrays[name]).all():
            raise ModelError(f"{kind} model: array {name!r} has non-finite numbers")
    unknown = sorted(set(arrays) - set(expected))
    if unknown:
        raise ModelError(f"{kind} model: unknown array {unknown[0]!r}, expected {', '.join(expected)}")
