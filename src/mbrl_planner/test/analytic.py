# SPDX-License-Identifier: Apache-2.0
"""Problems whose dynamics are exact, so that planners alone are tested."""

import math
from collections.abc import Callable

import numpy as np
import torch

from mbrl_core.specs import ActionSpec, Array, RobotSpec, StateSpec
from mbrl_dynamics.closed_loop import BatchPolicy
from mbrl_dynamics.derivatives import step_hessians, step_jacobians
from mbrl_dynamics.model import KeepGoing
from mbrl_dynamics.rollout import check_time
from mbrl_planner.expansion import TrajectoryProblem
from mbrl_planner.planner import Objective

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Reward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

PERIOD = 0.1
DYNAMICS = np.array([[1.0, PERIOD], [0.0, 1.0]])
CONTROL = np.array([[0.5 * PERIOD**2], [PERIOD]])
STATE_WEIGHT = np.diag([1.0, 0.1])
ACTION_WEIGHT = np.array([[0.05]])


def spec_of(state_size: int, action_size: int, limit: float, period: float = PERIOD) -> RobotSpec:
    """A robot of linear states without limits and actions within +-limit."""
    return RobotSpec(
        name="analytic",
        period=period,
        state=StateSpec(
            tuple(f"x{index}" for index in range(state_size)), ("linear",) * state_size, ("m",) * state_size,
            (-math.inf,) * state_size, (math.inf,) * state_size,
        ),
        action=ActionSpec(
            tuple(f"u{index}" for index in range(action_size)), ("effort",) * action_size, ("N",) * action_size,
            (-limit,) * action_size, (limit,) * action_size, (1.0,) * action_size, (math.inf,) * action_size,
        ),
    )  # fmt: skip


class ExactDynamics:
    """A known step function and its derivatives, in double precision as far as `step` keeps it."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def step(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self._step(state, action).double()

    def rollout(self, state: torch.Tensor, actions: torch.Tensor, keep_going: KeepGoing | None) -> torch.Tensor:
        states = [state.expand(len(actions), -1).double()]
        for index in range(actions.shape[1]):
            check_time(keep_going, index)
            states.append(self.step(states[-1], actions[:, index]))
        return torch.stack(states, dim=1)

    def jacobians(self, state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = step_jacobians(self.step, state, action)
        assert found is not None
        return found

    def hessians(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        found = step_hessians(self.step, state, action)
        assert found is not None
        return found


class ExactObjective(Objective):
    """Sum of rewards under a known step function on batches [N, state_size], [N, action_size]."""

    def __init__(self, step: Step, reward: Reward) -> None:
        self.step = step
        self.reward = reward
        self.calls = 0
        self.rows = 0
        self._states = torch.zeros(0)

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.rows += len(actions)
        current = torch.as_tensor(state, dtype=torch.float32).repeat(len(actions), 1)
        states = [current]
        total = torch.zeros(len(actions))
        for index in range(actions.shape[1]):
            following = self.step(current, actions[:, index])
            total += self.reward(current, actions[:, index], following)
            current = following
            states.append(current)
        self._states = torch.stack(states, dim=1)
        return torch.where(total.isfinite(), total, -torch.inf)

    def closed_loop(
        self, state: Array, policy: BatchPolicy, count: int, horizon: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        current = torch.as_tensor(state, dtype=torch.float32).repeat(count, 1)
        actions = []
        for index in range(horizon):
            actions.append(policy(current[:, None], index)[:, 0])
            current = self.step(current, actions[-1])
        sequences = torch.stack(actions, dim=1)
        return self(state, sequences), sequences

    def with_gradient(self, state: Array, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            variables = actions.clone().requires_grad_(True)
            returns = self(state, variables)
            self._states = self._states.detach()
            # Rewards that no action changes have no graph to go back through.
            total = returns.sum() + 0.0 * variables.sum()
            (gradient,) = torch.autograd.grad(total, variables)
        return returns.detach(), gradient

    def trajectory_problem(self, spec: RobotSpec) -> TrajectoryProblem:
        def step(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
            return self.step(state.float(), action.float())

        def reward(state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
            rows = (state.flatten(0, -2).float(), action.flatten(0, -2).float(), following.flatten(0, -2).float())
            return self.reward(*rows).double().view(action.shape[:-1])

        return TrajectoryProblem(ExactDynamics(step), reward, spec)

    def prediction(self, index: int) -> tuple[Array, Array]:
        mean = self._states[index].numpy().astype(np.float64)
        return mean, np.zeros_like(mean)

    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        with torch.inference_mode():
            self(state, torch.as_tensor(actions, dtype=torch.float32)[None])
            return self.prediction(0)


def double_integrator() -> ExactObjective:
    """A point mass; reward -(x' Q x' + u R u)."""
    dynamics, control = (torch.as_tensor(matrix, dtype=torch.float32) for matrix in (DYNAMICS, CONTROL))
    state_weight = torch.as_tensor(np.diag(STATE_WEIGHT).copy(), dtype=torch.float32)

    def step(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return state @ dynamics.T + action @ control.T

    def reward(state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return -(following.square() @ state_weight) - ACTION_WEIGHT[0, 0] * action[:, 0].square()

    return ExactObjective(step, reward)


def riccati_cost(state: Array, horizon: int) -> float:
    """Least cost of the double integrator over `horizon` steps without action limits, by backward recursion."""
    value = np.zeros((2, 2))
    for _ in range(horizon):
        total = STATE_WEIGHT + value
        gain = np.linalg.solve(ACTION_WEIGHT + CONTROL.T @ total @ CONTROL, CONTROL.T @ total @ DYNAMICS)
        closed = DYNAMICS - CONTROL @ gain
        value = closed.T @ total @ closed + gain.T @ ACTION_WEIGHT @ gain
    return float(state @ value @ state)
