# SPDX-License-Identifier: Apache-2.0
"""The objective of model predictive control: expected return of action sequences under a learned model."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from mbrl_core.config import ConfigurationError
from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import Task
from mbrl_dynamics.closed_loop import BatchPolicy, ClosedLoopTrajectories, closed_loop_rollout
from mbrl_dynamics.model import DynamicsModel, ModelError
from mbrl_dynamics.rollout import RolloutInterrupted, Trajectories, differentiable_rollout, rollout
from mbrl_planner.errors import OutOfTime
from mbrl_planner.expansion import MeanDynamics, TrajectoryProblem
from mbrl_planner.planner import Objective
from mbrl_planner.risk import Risk, RiskConfig

Rolled = TypeVar("Rolled", Trajectories, ClosedLoopTrajectories)


class ModelObjective(Objective):
    """Mean over model particles of the sum of rewards, trajectory sampling of PETS (Chua et al. 2018, eq. 1).

    `particles` is a multiple of the model's members. After a terminal state a trajectory earns nothing. What `risk`
    says is taken off, see `Risk.penalty`; without it returns are the rewards alone. `precision` is that of evaluations
    without gradient, see `rollout`; `device` is where the model is rolled out, states and actions come and go on "cpu".
    Raises ConfigurationError when the task is not defined on the model's robot, its reward has a wrong shape, or `risk`
    does not go with the propagation and particles.
    """

    divisible = True

    def __init__(
        self,
        model: DynamicsModel,
        task: Task,
        particles: int,
        propagation: str,
        risk: RiskConfig | None = None,
        precision: str = "float32",
        device: str = "cpu",
    ) -> None:
        task.check_robot(model.spec)
        task.check_reward(torch)
        check_device(device)
        self._given = model  # derivatives and trajectories along the mean stay on the processor
        try:
            self.model = model if device == "cpu" else model.to(torch.device(device))
        except ModelError as error:
            raise ConfigurationError(f"parameter 'device': got {device!r}: {error}") from None
        self.precision = precision
        self._device = torch.device(device)
        self.task = task
        # Particles of a model without noise are all the same.
        self.particles = model.members if model.deterministic else particles
        self.propagation = propagation
        self._risk = Risk.of(risk, task, propagation, self.particles, model)
        self._generator = torch.Generator()
        self._terminates = type(task).terminated is not Task.terminated
        self._states: list[tuple[int, torch.Tensor]] = []  # of the newest batch, by the number of the first candidate
        self._part: tuple[int, bool] | None = None
        self._before_batch: torch.Tensor | None = None

    def start(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def part_of_batch(self, first: int, begins: bool) -> None:
        self._part = first, begins

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        actions = actions.to(self._device)
        trajectories = self._roll_out(partial(rollout, actions=actions, precision=self.precision), state)
        return self._returns(trajectories.states, actions).cpu()

    def _roll_out(self, roll: Callable[..., Rolled], state: Array) -> Rolled:
        """Trajectories of the next part of a batch, by default a whole one."""
        (first, begins), self._part = self._part or (0, True), None
        if begins:
            self._states.clear()
            self._before_batch = self._generator.get_state()
        elif self._before_batch is not None:
            self._generator.set_state(self._before_batch)
        start = torch.as_tensor(state, dtype=torch.float32, device=self._device)
        try:
            trajectories = roll(
                self.model,
                start,
                particles=self.particles,
                propagation=self.propagation,
                generator=self._generator,
                keep_going=self.keep_going,
            )
        except RolloutInterrupted as interrupted:
            raise OutOfTime(str(interrupted)) from None
        self._states.append((first, trajectories.states.detach()))
        return trajectories

    def with_gradient(self, state: Array, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Objective.with_gradient`; particles and noise are those of a call without gradient."""
        with torch.inference_mode(False), torch.enable_grad():
            variables = actions.to(self._device, copy=True).requires_grad_(True)
            trajectories = self._roll_out(partial(differentiable_rollout, actions=variables), state)
            returns = self._returns(trajectories.states, variables)
            try:
                (gradient,) = torch.autograd.grad(returns.sum(), variables)
            except RolloutInterrupted as interrupted:
                raise OutOfTime(str(interrupted)) from None
        return returns.detach().cpu(), gradient.cpu()

    def closed_loop(
        self, state: Array, policy: BatchPolicy, count: int, horizon: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        roll = partial(closed_loop_rollout, policy=policy, count=count, horizon=horizon)
        trajectories = self._roll_out(roll, state)
        returns = self._returns(trajectories.states, trajectories.actions)
        return returns.cpu(), trajectories.actions.mean(dim=1).cpu()

    def trajectory_problem(self, spec: RobotSpec) -> TrajectoryProblem:
        ended = self.task.terminated if self._terminates else None
        reward = self.task.reward if self._risk is None else self._risk.reward_along_mean
        return TrajectoryProblem(MeanDynamics(self._given), reward, spec, ended)

    def _returns(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Mean over particles of the sum of rewards, [N], of states [N, P, H + 1, state_size] and actions
        [N, H, action_size], or [N, P, H, action_size] where particles differ in them.
        """
        by_particle = actions if actions.dim() == 4 else actions[:, None]
        rewards = self.task.reward(states[:, :, :-1], by_particle, states[:, :, 1:])
        ended = None
        if self._terminates:
            ended = self.task.terminated(states[:, :, :-1]).cummax(dim=-1).values
            rewards = rewards.masked_fill(ended, 0.0)
        returns: torch.Tensor = rewards.sum(dim=-1).mean(dim=-1)
        if self._risk is not None:
            returns = returns - self._risk.penalty(states, rewards, ended)
        return torch.where(returns.isfinite(), returns, -torch.inf)

    def prediction(self, index: int) -> tuple[Array, Array] | None:
        for first, states in self._states:
            if first <= index < first + len(states):
                return _moments(states[index - first])
        return None

    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        """Moments over particles; see `Objective.predict`."""
        return _moments(self._rollout(state, actions, self.propagation))

    def advance(self, state: Array, actions: Array) -> Array:
        return _moments(self._rollout(state, actions, "mean"))[0][-1]

    def _rollout(self, state: Array, actions: Array, propagation: str) -> torch.Tensor:
        """States [P, H + 1, state_size] of one sequence."""
        with torch.inference_mode():
            start = torch.as_tensor(state, dtype=torch.float32, device=self._device)
            sequence = torch.as_tensor(actions, dtype=torch.float32, device=self._device)[None]
            return rollout(self.model, start, sequence, self.particles, propagation, self._generator).states[0]


def check_device(device: str) -> None:
    """Raises ConfigurationError when torch cannot compute on `device` here."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(
            f"parameter 'device': got {device!r}, but torch finds no such device here; expected cpu"
        )


def _moments(states: torch.Tensor) -> tuple[Array, Array]:
    """Mean and standard deviation [H + 1, state_size] over the particles of states [P, H + 1, state_size]."""
    values = states.cpu().numpy().astype(np.float64)
    return values.mean(axis=0), values.std(axis=0)
