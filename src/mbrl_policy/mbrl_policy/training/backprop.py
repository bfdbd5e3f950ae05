# SPDX-License-Identifier: Apache-2.0
"""Backpropagation through the learned model into the policy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.tasks import Task
from mbrl_dynamics.imagination import GradientLimit, imagine
from mbrl_dynamics.propagation import PROPAGATIONS, check_propagation
from mbrl_policy.training.algorithm import TRAINERS, KeepGoing, Progress
from mbrl_policy.training.model_based import ModelBasedConfig, ModelBasedTrainer
from mbrl_policy.training.rollouts import TrainingRobot
from mbrl_policy.value_function import mixed_returns
from mbrl_policy.value_gradients import reparameterised_action

FAR = 100.0  # standard deviations of the states in the data


@dataclass(frozen=True)
class BackpropConfig(ModelBasedConfig):
    """Parameters of backpropagation into the policy."""

    updates: int = parameter(300, "gradient steps of the policy in an iteration", minimum=1)
    first_updates: int = parameter(500, "of the first iteration", minimum=1)
    batch_size: int = parameter(40, "imagined trajectories of a gradient step, each with its particles", minimum=1)
    horizon: int = parameter(20, "steps of an imagined trajectory; beyond it counts the value", minimum=1, maximum=2000)
    particles: int = parameter(5, "of each start; a multiple of the model's members", minimum=1, maximum=1000)
    propagation: str = parameter(
        "tsinf", "of uncertainty, as for planners: ts1, tsinf, ds, mm or mean", choices=PROPAGATIONS
    )
    mixing: float = parameter(
        0.95, "lambda of the returns: 1 counts all rewards up to the horizon, 0 those of one step", minimum=0, maximum=1
    )
    value_rate: float = parameter(
        0.02, "share by which the target value function follows at each update", minimum=0.0, maximum=1.0
    )
    continued_share: float = parameter(
        0.5,
        "share of imagined trajectories that go on where earlier ones ended, from an episode's start state on; the"
        " others begin in states of the data",
        minimum=0.0,
        maximum=1.0,
    )
    gradient_limit: float = parameter(
        3.0,
        "largest gradient that comes back to a state, as a multiple of the median of its time step's",
        minimum=1.0,
    )
    sampled: bool = parameter(False, "roll out with the policy's noise")


class ImaginedEpisodes:
    """States of `count` episodes that are imagined piece by piece: the policy meets where it leads itself, not only
    what the data shows (Xu et al. 2022, "Accelerated Policy Learning with Parallel Differentiable Simulation").

    An episode begins anew, in a start state of the robot, after as many steps as it has there, where the task ends it,
    and when it leaves what is known by far: FAR times `scale` [state_size].
    """

    def __init__(self, robot: TrainingRobot, count: int, scale: Tensor, generator: torch.Generator) -> None:
        self._robot, self._generator = robot, generator
        # Turns are no distance.
        self._farthest = torch.where(torch.from_numpy(robot.spec.state.angular), torch.inf, FAR * scale)
        # Ages differ from the beginning on, so that all parts of an episode are met at all times.
        self._ages = torch.randint(robot.steps, (count,), generator=generator)
        self.states = self._drawn(count)

    def go_on(self, states: Tensor) -> None:
        """Takes the last states of trajectories [N, P, H + 1, n], the first of which are those of the episodes: of one
        particle each, at random.
        """
        count = len(self.states)
        chosen = torch.randint(states.shape[1], (count,), generator=self._generator)
        trajectories = states[torch.arange(count), chosen]
        self.states = trajectories[:, -1]
        self._ages += trajectories.shape[1] - 1
        over = (self._ages >= self._robot.steps) | self._robot.task.terminated(trajectories).any(dim=1)
        lost = over | ~(self.states.abs() < self._farthest).all(dim=1)
        self.states[lost] = self._drawn(int(lost.sum()))
        self._ages[lost] = 0

    def _drawn(self, count: int) -> Tensor:
        seeds = torch.randint(2**62, (count,), generator=self._generator).tolist()
        drawn = [self._robot.drawn_start(seed) for seed in seeds]
        return torch.from_numpy(np.array(drawn).reshape(count, self._robot.spec.state.size)).float()


@TRAINERS.register("backprop", BackpropConfig)
class Backprop(ModelBasedTrainer):
    """Ascends the return of imagined trajectories by the policy's weights, through model, reward and policy:

        E[G_0],   G_t = r_t + gamma ((1 - lambda) V(s_{t+1}) + lambda G_{t+1}),   G_H = V(s_H)

    with s_{t+1} and a_t functions of noises (`imagine`). V is fitted to the G_t of all imagined states, with a target
    that follows slowly (after Hafner et al. 2020, "Dream to Control: Learning Behaviors by Latent Imagination").
    Trajectories begin in states of the data and in those of `ImaginedEpisodes`.

    Raises ConfigurationError when `particles` is not a multiple of the model's members.
    """

    kind = "backprop"
    config: BackpropConfig

    def __init__(self, *arguments: Any, **sources: Any) -> None:
        super().__init__(*arguments, **sources)
        config = self.config
        try:
            check_propagation(self.dynamics, config.particles, config.propagation)
        except ValueError as error:
            raise ConfigurationError(f"parameter {error}") from None
        self._terminates = type(self.robot.task).terminated is not Task.terminated

    def _iterate(self, keep_going: KeepGoing) -> Progress:
        first = self._fitted == 0
        self._begin(keep_going)
        fit_loss = self._fit(keep_going)
        figures = self._train(self.config.first_updates if first else self.config.updates, keep_going)
        rollouts = self._roll_out(keep_going, self.config.sampled)
        if rollouts:
            self._add(rollouts)
            mean_return = float(np.mean([rollout.total_return for rollout in rollouts]))
        else:
            mean_return = self._imagined_return(keep_going)
        self._consider(self.current, mean_return)
        return Progress(0, mean_return, loss=figures["value_loss"], information={**figures, "fit_loss": fit_loss})

    def _train(self, updates: int, keep_going: KeepGoing) -> dict[str, float]:
        config = self.config
        states = self._states()
        scale = states.std(dim=0).clamp_min(1e-3)
        limit = GradientLimit(scale, config.gradient_limit)
        generator = torch.Generator().manual_seed(self.torch_seed("imagination"))
        episodes = ImaginedEpisodes(self.robot, round(config.continued_share * config.batch_size), scale, generator)
        gains, losses, norms = [], [], []
        for _ in range(updates):
            self._check(keep_going)
            rows = torch.randint(len(states), (config.batch_size - len(episodes.states),), generator=generator)
            starts = torch.cat([episodes.states, states[rows]])
            noise = torch.randn(config.horizon, len(starts), 1, self.robot.spec.action.size, generator=generator)

            def act(state: Tensor, step: int, noise: Tensor = noise) -> Tensor:
                return reparameterised_action(self.current, state, noise[step])

            trajectories = imagine(
                self.dynamics, starts, act, config.horizon, config.particles, config.propagation, generator,
                limit=limit,
            )  # fmt: skip
            episodes.go_on(trajectories.states.detach())
            before, after = trajectories.states[:, :, :-1], trajectories.states[:, :, 1:]
            rewards = self.robot.task.reward(before, trajectories.actions, after)
            discounts: Tensor | float = config.discount
            if self._terminates:
                discounts = config.discount * (~self.robot.task.terminated(after)).to(rewards.dtype)
            returns = mixed_returns(rewards, self.target(after), discounts, config.mixing)
            gain = (1.0 - config.discount) * returns[..., 0].mean()
            norms.append(self._step_policy(gain))
            losses.append(self._step_value(before.detach(), returns.detach()))
            self.target.follow(self.value, config.value_rate)
            gains.append(float(gain.detach()))
        tail = max(1, updates // 10)
        return {
            "reward_rate": float(np.mean(gains[-tail:])),
            "value_loss": float(np.mean(losses[-tail:])),
            "gradient_norm": float(np.mean(norms[-tail:])),
            "cut": limit.cut / max(limit.seen, 1),
        }
