# SPDX-License-Identifier: Apache-2.0
"""Stochastic value gradients: a policy from real transitions, through a learned model's derivatives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.dataset import Transitions
from mbrl_policy.training.algorithm import TRAINERS, KeepGoing, Progress
from mbrl_policy.training.model_based import ModelBasedConfig, ModelBasedTrainer
from mbrl_policy.training.rollouts import Rollout, transitions_of
from mbrl_policy.value_gradients import (
    StepDerivatives,
    inferred_action_noise,
    one_step_action_gradients,
    policy_slopes,
    reparameterised_action,
    step_derivatives,
    trajectory_action_gradients,
)

CHUNK = 512  # transitions whose derivatives are taken at once


@dataclass(frozen=True)
class SvgConfig(ModelBasedConfig):
    """Parameters of stochastic value gradients."""

    variant: str = parameter(
        "one",
        "one: SVG(1), one step of the model and a value function, from all data; infinity: SVG(infinity), whole"
        " trajectories of the current policy and no value function",
        choices=("one", "infinity"),
    )
    updates: int = parameter(
        1000, "gradient steps of policy and value function in an iteration of SVG(1)", minimum=1, maximum=1_000_000
    )
    batch_size: int = parameter(128, "transitions of a gradient step of SVG(1)", minimum=1)
    target_interval: int = parameter(
        50, "steps after which the target of the value function's regression is renewed", minimum=1
    )
    largest_weight: float = parameter(
        2.0, "importance weights of transitions of earlier policies are cut to this", minimum=0.0
    )
    value_gradient_limit: float = parameter(
        100.0,
        "SVG(infinity): largest norm of the value's derivative by the state, rewards per SI unit; larger ones are"
        " scaled down",
        minimum=1e-6,
    )


@TRAINERS.register("svg", SvgConfig)
class StochasticValueGradients(ModelBasedTrainer):
    """Policy gradients along real transitions, whose noises are inferred (`mbrl_policy.value_gradients`).

    Heess et al. 2015 (arXiv:1510.09142): `one` is SVG(1) with replay (algorithms 2 and 4), `infinity` SVG(infinity)
    (algorithm 1). A rollout is of the policy before the iteration's gradient steps, so `mean_return` and `policy` are
    behind by one iteration.
    """

    kind = "svg"
    config: SvgConfig

    def __init__(self, *arguments: Any, **sources: Any) -> None:
        super().__init__(*arguments, **sources)
        if self.config.variant == "infinity" and not self.config.rollouts_per_iteration:
            raise ConfigurationError(
                "parameter 'rollouts_per_iteration': got 0, expected at least 1: SVG(infinity) goes along rollouts"
            )
        self._wanted = self.data.action.copy()
        self._density = np.full(len(self.data), np.nan)  # log, of the policy that did it; NaN where nobody knows
        self._ended = np.zeros(len(self.data), dtype=bool)  # by the task

    def _add(self, rollouts: list[Rollout]) -> None:
        self._add_with_density(rollouts, known=False)

    def _add_with_density(self, rollouts: list[Rollout], known: bool) -> None:
        super()._add(rollouts)
        wanted = np.concatenate([rollout.wanted for rollout in rollouts])
        states = np.concatenate([rollout.states[:-1] for rollout in rollouts])
        ended = np.concatenate([one.terminated & (np.arange(len(one)) == len(one) - 1) for one in rollouts])
        density = np.full(len(wanted), np.nan)
        if known:
            with torch.no_grad():
                actions = torch.from_numpy(wanted).float()
                density = self.current.act(torch.from_numpy(states).float()).log_prob(actions).double().numpy()
        self._wanted = np.concatenate([self._wanted, wanted])
        self._density = np.concatenate([self._density, density])
        self._ended = np.concatenate([self._ended, ended])

    def _iterate(self, keep_going: KeepGoing) -> Progress:
        self._begin(keep_going)
        rollouts = self._roll_out(keep_going, sampled=True)
        mean_return = float("nan")
        if rollouts:
            mean_return = float(np.mean([rollout.total_return for rollout in rollouts]))
            self._add_with_density(rollouts, known=True)
            # What was rolled out is the policy before this iteration's steps.
            self._consider(self.current, mean_return)
        fit_loss = self._fit(keep_going)
        if self.config.variant == "infinity":
            figures = self._along_trajectories(rollouts, keep_going)
        else:
            figures = self._from_replay(keep_going)
        if not rollouts:
            mean_return = self._imagined_return(keep_going)
            self._consider(self.current, mean_return)
        return Progress(0, mean_return, loss=figures["value_loss"], information={**figures, "fit_loss": fit_loss})

    def _derivatives(self, data: Transitions, keep_going: KeepGoing) -> StepDerivatives:
        """Of transitions, chunk by chunk."""
        parts = []
        for begin in range(0, len(data), CHUNK):
            self._check(keep_going)
            rows = (torch.from_numpy(values[begin : begin + CHUNK]).float() for values in
                    (data.state, data.action, data.next_state))  # fmt: skip
            parts.append(step_derivatives(self.dynamics, self.robot.task, *rows))
        return StepDerivatives(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def _along_trajectories(self, rollouts: list[Rollout], keep_going: KeepGoing) -> dict[str, float]:
        """Algorithm 1: one step along the mean of the gradients of this iteration's trajectories."""
        total = torch.zeros(())
        for rollout in rollouts:
            states = torch.from_numpy(rollout.states).float()
            noise = inferred_action_noise(self.current, states[:-1], torch.from_numpy(rollout.wanted).float())
            gradients = trajectory_action_gradients(
                self._derivatives(transitions_of([rollout]), keep_going),
                policy_slopes(self.current, states[:-1], noise), self.config.discount,
                torch.zeros(states.shape[1]), self.config.value_gradient_limit,
            )  # fmt: skip
            total = total + (gradients * reparameterised_action(self.current, states[:-1], noise)).sum()
        norm = self._step_policy(total / len(rollouts))
        return {"gradient_norm": norm, "value_loss": float("nan")}

    def _from_replay(self, keep_going: KeepGoing) -> dict[str, float]:
        """Algorithms 2 and 4: value function and policy from weighted transitions of all policies so far."""
        config = self.config
        derivatives = self._derivatives(self.data, keep_going)
        state, action, following, wanted, density = (
            torch.from_numpy(values).float()
            for values in (self.data.state, self.data.action, self.data.next_state, self._wanted, self._density)
        )
        reward = self.robot.task.reward(state, action, following)
        onward = config.discount * torch.from_numpy(~self._ended).float()
        generator = torch.Generator().manual_seed(self.torch_seed("replay"))
        losses, norms, weights = [], [], []
        for update in range(config.updates):
            self._check(keep_going)
            rows = torch.randint(len(state), (min(config.batch_size, len(state)),), generator=generator)
            weight = self._weights(state[rows], wanted[rows], density[rows])
            if update % config.target_interval == 0:
                self.target.follow(self.value, 1.0)
            with torch.no_grad():
                goal = reward[rows] + onward[rows] * self.target(following[rows])
            losses.append(self._step_value(state[rows], goal, weight))
            ahead = following[rows].requires_grad_(True)
            (slopes,) = torch.autograd.grad(self.value(ahead).sum(), ahead)
            one = StepDerivatives(*(value[rows] for value in vars(derivatives).values()))
            alive = (onward[rows] > 0.0).float().unsqueeze(-1)
            gradients = weight.unsqueeze(-1) * one_step_action_gradients(one, alive * slopes, config.discount)
            noise = inferred_action_noise(self.current, state[rows], wanted[rows])
            actions = reparameterised_action(self.current, state[rows], noise)
            norms.append(self._step_policy((gradients * actions).sum(dim=-1).mean()))
            weights.append(float(weight.mean()))
        return {
            "value_loss": float(np.mean(losses[-100:])), "gradient_norm": float(np.mean(norms)),
            "weight": float(np.mean(weights)),
        }  # fmt: skip

    @torch.no_grad()
    def _weights(self, state: Tensor, wanted: Tensor, density: Tensor) -> Tensor:
        """Importance weights [B] of transitions under the present policy; 1 where the density is not known."""
        ratio = torch.exp((self.current.act(state).log_prob(wanted) - density).clamp(-20.0, 20.0))
        return torch.where(density.isnan(), 1.0, ratio.clamp(max=self.config.largest_weight))

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, information = super()._state()
        arrays |= {"wanted": self._wanted.copy(), "density": self._density.copy(), "ended": self._ended.copy()}
        return arrays, information

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        super()._restore(arrays, information)
        count = len(self.data)
        for name in ("wanted", "density", "ended"):
            if len(arrays[name]) != count:
                raise CheckpointError(f"trainer 'svg': {name} of {len(arrays[name])} transitions, expected {count}")
        self._wanted, self._density, self._ended = (arrays[name].copy() for name in ("wanted", "density", "ended"))
