# SPDX-License-Identifier: Apache-2.0
"""What trajectory optimisers need of an objective: rollouts with feedback, and expansions about a trajectory.

Everything follows one deterministic trajectory, that of the mean of the model's members, in double precision where
the dynamics have it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from mbrl_core.specs import Array, RobotSpec
from mbrl_dynamics.model import DynamicsModel, KeepGoing
from mbrl_dynamics.rollout import RolloutInterrupted, rollout
from mbrl_planner.errors import OutOfTime

Result = TypeVar("Result")
Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""State, action, next state [..., size] -> [...]."""
Ended = Callable[[Tensor], Tensor]
"""State [..., state_size] -> bool [...]."""


class Dynamics(Protocol):
    """A deterministic step on rows: state [N, n], action [N, m], all in double precision."""

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """Next state [N, n]."""

    def rollout(self, state: Tensor, actions: Tensor, keep_going: KeepGoing | None) -> Tensor:
        """States [N, H + 1, n] from `state` [n] under actions [N, H, m]: the steps at once, where that is faster.

        Raises RolloutInterrupted once `keep_going` says no.
        """

    def jacobians(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """f_x [N, n, n] and f_u [N, n, m]."""

    def hessians(self, state: Tensor, action: Tensor) -> Tensor:
        """[N, n, n + m, n + m]: second derivatives of each next state, states before actions."""


class MeanDynamics:
    """The mean of the members of a model, in the precision that the model has."""

    def __init__(self, model: DynamicsModel) -> None:
        self._model = model

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        return self._model.predict(self._own(state), self._own(action)).mean.mean(dim=0).double()

    def rollout(self, state: Tensor, actions: Tensor, keep_going: KeepGoing | None) -> Tensor:
        model, unused = self._model, torch.Generator()
        rolled = rollout(model, self._own(state), self._own(actions), model.members, "mean", unused, keep_going)
        return rolled.states[:, 0].double()

    def jacobians(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        by_state, by_action = self._model.jacobians(self._own(state), self._own(action))
        return by_state.mean(dim=0).double(), by_action.mean(dim=0).double()

    def hessians(self, state: Tensor, action: Tensor) -> Tensor:
        return self._model.hessians(self._own(state), self._own(action)).mean(dim=0).double()

    def _own(self, values: Tensor) -> Tensor:
        return values.to(self._model.precision)


@dataclass(frozen=True)
class Trajectory:
    """states [H + 1, n], actions [H, m] within the limits, and their return."""

    states: Array
    actions: Array
    total: float


@dataclass(frozen=True)
class Expansion:
    """Derivatives along a trajectory of H steps, x the state, u the action, y = f(x, u) the next state.

    Attributes:
        by_state: f_x [H, n, n].
        by_action: f_u [H, n, m].
        dynamics_hessian: [H, n, n + m, n + m], f_xx, f_xu and f_uu; None where only first derivatives were asked for.
        slope: [H, n + m + n], of the penalty (minus the reward) l(x, u, y) by x, u and y.
        curvature: [H, n + m + n, n + m + n], its second derivatives.
    """

    by_state: Array
    by_action: Array
    dynamics_hessian: Array | None
    slope: Array
    curvature: Array


class Timing(Protocol):
    """Who watches over the time that a problem's work takes."""

    def piece(self, name: str, work: Callable[[], Result]) -> Result:
        """What `work` returns, which nothing can stop. Raises OutOfTime where there is no time for it."""

    def keep_going(self) -> bool:
        """Asked before every step by work that can stop; it raises OutOfTime on a no."""


class Unhurried(Timing):
    """There is time for everything."""

    def piece(self, name: str, work: Callable[[], Result]) -> Result:
        return work()

    def keep_going(self) -> bool:
        return True


class TrajectoryProblem:
    """Return of trajectories under deterministic dynamics, within the action limits of `spec`.

    After a state that `ended` says is terminal a trajectory earns nothing.
    """

    def __init__(self, dynamics: Dynamics, reward: Reward, spec: RobotSpec, ended: Ended | None = None) -> None:
        self._dynamics = dynamics
        self._reward = reward
        self._ended = ended
        self._lower = torch.tensor(spec.action.lower, dtype=torch.float64)
        self._upper = torch.tensor(spec.action.upper, dtype=torch.float64)
        angular = torch.as_tensor(spec.state.angular)
        self._turn = torch.where(angular, 2.0 * math.pi, 1.0).double()
        self._wrap = angular.double()
        self.timing: Timing = Unhurried()

    @torch.inference_mode()
    def open_loop(self, state: Array, actions: Array) -> list[Trajectory]:
        """Trajectories of actions [N, H, m], clipped to the limits, from `state` [n].

        Returns of -inf are those of trajectories that are not finite. Raises OutOfTime, see `timing`.
        """
        clipped = torch.clamp(torch.as_tensor(actions, dtype=torch.float64), self._lower, self._upper)
        try:
            states = self._dynamics.rollout(torch.as_tensor(state), clipped, self.timing.keep_going)
        except RolloutInterrupted as interrupted:
            raise OutOfTime(str(interrupted)) from None
        return self._judged(states, clipped)

    @torch.inference_mode()
    def closed_loop(self, state: Array, reference: Array, actions: Array, gains: Array) -> list[Trajectory]:
        """Trajectories of u_t = actions_t + gains_t (x_t - reference_t), angles wrapped, clipped to the limits.

        `state` [n], `reference` [H + 1, n], actions [N, H, m], gains [H, m, n]. Raises OutOfTime, see `timing`.
        """
        wanted, about, feedback = (torch.as_tensor(values) for values in (actions, reference, np.swapaxes(gains, 1, 2)))
        count, horizon, _ = wanted.shape
        states = torch.empty(count, horizon + 1, len(state), dtype=torch.float64)
        executed = torch.empty_like(wanted)
        states[:, 0] = current = torch.as_tensor(state).expand(count, -1)
        for step in range(horizon):
            if not self.timing.keep_going():
                raise OutOfTime(f"stopped at step {step}")
            error = current - about[step]
            error = error - self._wrap * torch.round(error / self._turn) * self._turn
            action = torch.clamp(wanted[:, step] + error @ feedback[step], self._lower, self._upper)
            executed[:, step] = action
            states[:, step + 1] = current = self._dynamics.step(current, action)
        return self._judged(states, executed)

    def _judged(self, states: Tensor, actions: Tensor) -> list[Trajectory]:
        rewards = self._reward(states[:, :-1], actions, states[:, 1:])
        if self._ended is not None:
            rewards = rewards.masked_fill(self._ended(states[:, :-1]).cummax(dim=-1).values, 0.0)
        finite = rewards.isfinite().all(dim=-1) & states.isfinite().flatten(1).all(dim=-1)
        totals = torch.where(finite, rewards.sum(dim=-1), -torch.inf)
        columns = (states.numpy(), actions.numpy(), totals.tolist())
        return [Trajectory(*row) for row in zip(*columns, strict=True)]

    def expand(self, trajectory: Trajectory, second_order: bool) -> Expansion:
        """Derivatives along `trajectory`; those of second order of the dynamics where `second_order` asks for them.

        Raises OutOfTime, see `timing`.
        """
        states, actions = torch.as_tensor(trajectory.states), torch.as_tensor(trajectory.actions)
        dynamics, piece, hessian = self._dynamics, self.timing.piece, None
        by_state, by_action = piece("jacobians", lambda: dynamics.jacobians(states[:-1], actions))
        if second_order:
            hessian = piece("hessians", lambda: dynamics.hessians(states[:-1], actions)).numpy()
        slope, curvature = piece("penalty", lambda: self._penalty_derivatives(states, actions))
        return Expansion(by_state.numpy(), by_action.numpy(), hessian, slope, curvature)

    def _penalty_derivatives(self, states: Tensor, actions: Tensor) -> tuple[Array, Array]:
        first, second = penalty_derivatives(self._reward, states[:-1], actions, states[1:])
        if self._ended is not None:
            alive = ~self._ended(states[:-1]).cummax(dim=-1).values.numpy()
            first, second = first * alive[:, None], second * alive[:, None, None]
        return first, second


def penalty_derivatives(reward: Reward, state: Tensor, action: Tensor, next_state: Tensor) -> tuple[Array, Array]:
    """Of the penalty, minus the reward, by the joint vector of state, action and next state.

    state and next_state [N, n], action [N, m] -> slope [N, n + m + n], curvature [N, n + m + n, n + m + n].
    """
    size = state.shape[-1]
    with torch.inference_mode(False), torch.enable_grad():
        joint = torch.cat([state, action, next_state], dim=-1)
        # One copy for each variable: the second pass backward is one for all of them.
        copies = joint.repeat(joint.shape[-1], 1, 1).requires_grad_(True)
        penalty = -reward(copies[..., :size], copies[..., size:-size], copies[..., -size:])
        # Rewards that are constant or linear in everything have no graph to go back through.
        total = penalty.sum() + 0.0 * copies.square().sum()
        (slope,) = torch.autograd.grad(total, copies, create_graph=True)
        (curvature,) = torch.autograd.grad(torch.diagonal(slope, dim1=0, dim2=2).sum(), copies)
    first, second = slope[0].detach().numpy(), curvature.transpose(0, 1).numpy()
    assert first.shape == joint.shape
    return first, 0.5 * (second + np.swapaxes(second, 1, 2))
