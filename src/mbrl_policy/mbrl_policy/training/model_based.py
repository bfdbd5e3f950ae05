# SPDX-License-Identifier: Apache-2.0
"""What trainers share that learn a model from rollouts: data, fits, and the robot's part of an iteration."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_core.checkpoint import CheckpointError, under
from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.dataset import Transitions
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.policies import Policy
from mbrl_core.policies.network import NetworkPolicy
from mbrl_dynamics.model import DynamicsModel, FitInterrupted, ModelError
from mbrl_dynamics.registry import make_model
from mbrl_policy.exploration import ExplorationConfig, RandomExploration
from mbrl_policy.training.algorithm import (
    KeepGoing,
    TrainerConfig,
    TrainingAlgorithm,
    TrainingError,
    TrainingInterrupted,
)
from mbrl_policy.training.optimisers import module_arrays, optimiser_arrays, restore_module, restore_optimiser
from mbrl_policy.training.rollouts import Rollout, transitions_of
from mbrl_policy.value_function import ValueFunction

JUDGED_STARTS = 16
COLUMNS = ("state", "action", "next_state", "episode", "step")


@dataclass(frozen=True)
class ModelBasedConfig(TrainerConfig):
    """Parameters of every trainer that learns a model as it goes."""

    initial_rollouts: int = parameter(
        1, "rollouts before the first fit when no dataset is given", minimum=1, maximum=10_000
    )
    rollouts_per_iteration: int = parameter(
        1, "rollouts of the policy in an iteration; 0 trains from the data there is", minimum=0, maximum=10_000
    )
    fits: int = parameter(2, "fits of the model in an iteration with new data, one after another", minimum=1)
    discount: float = parameter(0.99, "of rewards, a step", minimum=0.0, maximum=0.9999)
    value_layers: int = parameter(2, "hidden layers of the value function", minimum=1, maximum=10)
    value_units: int = parameter(64, "units of each of them", minimum=1, maximum=4096)
    policy_learning_rate: float = parameter(1e-3, "Adam's step size for the policy", minimum=0.0)
    value_learning_rate: float = parameter(1e-3, "Adam's step size for the value function", minimum=0.0)
    gradient_clip: float = parameter(
        10.0, "largest norm of a gradient of policy or value function; larger ones are scaled down", minimum=1e-6
    )


class ModelBasedTrainer(TrainingAlgorithm):
    """Collects rollouts, and fits a model to all of them and to the dataset that was given; policy and value function
    are stepped by Adam.

    `model` is gone on from when one is given, in a copy; else an ensemble is begun with its default parameters. Raises
    ConfigurationError when the model or the dataset is of another robot, or the policy is no function of the state.
    """

    config: ModelBasedConfig

    def __init__(self, *arguments: Any, **sources: Any) -> None:
        super().__init__(*arguments, **sources)
        spec = self.robot.spec
        if self.model is not None and self.model.spec.interface_hash != spec.interface_hash:
            raise ConfigurationError(
                f"trainer {self.kind!r}: model of interface {self.model.spec.interface_hash[:12]!r}, expected"
                f" {spec.interface_hash[:12]!r} of robot {spec.name!r}"
            )
        self.dynamics: DynamicsModel = (
            make_model("ensemble", {}, spec, self.seed) if self.model is None else self.model.clone()
        )
        self.data = _empty(spec.state.size, spec.action.size) if self.dataset is None else self.dataset
        if self.data.state.shape[1:] != (spec.state.size,) or self.data.action.shape[1:] != (spec.action.size,):
            raise ConfigurationError(
                f"trainer {self.kind!r}: dataset of {self.data.state.shape[1]} states and"
                f" {self.data.action.shape[1]} actions, expected {spec.state.size} and {spec.action.size}"
            )
        self._fitted = 0  # transitions that the newest fit saw
        self.current = self._checked_policy(self.new_policy())
        sizes = self.config.value_layers, self.config.value_units, self.config.discount
        self.value = ValueFunction(spec, *sizes, self.torch_seed("value_weights"))
        self.target = copy.deepcopy(self.value)
        self._optimisers = {
            "policy_adam": torch.optim.Adam(self.current.parameters(), lr=self.config.policy_learning_rate),
            "value_adam": torch.optim.Adam(self.value.parameters(), lr=self.config.value_learning_rate),
        }

    def _checked_policy(self, policy: Policy) -> NetworkPolicy:
        if not isinstance(policy, NetworkPolicy):
            raise ConfigurationError(
                f"trainer {self.kind!r}: policy of kind {policy.kind!r}, expected one that is a function of the state"
            )
        return policy

    def _add(self, rollouts: list[Rollout]) -> None:
        """Takes new rollouts into the data, as episodes of their own."""
        self.rollouts += len(rollouts)
        new = transitions_of(rollouts)
        first = int(self.data.episode.max()) + 1 if len(self.data) else 0
        new = Transitions(new.state, new.action, new.next_state, new.episode + first, new.step)
        self.data = Transitions.joined((self.data, new))

    def _explore(self, keep_going: KeepGoing) -> list[Rollout]:
        """The rollouts before the first fit: coloured noise, see `RandomExploration`."""
        found = []
        for index in range(self.config.initial_rollouts):
            self._check(keep_going)
            seed = self.torch_seed("exploration", index)
            exploration = RandomExploration(ExplorationConfig(seed=seed), self.robot.spec)

            def answer(step: TimeStep, draw: RandomExploration = exploration) -> Plan:
                return Plan(draw.actions(step.episode, step.step, step.state))

            found.append(self.robot.rollout_controller(answer, seed=seed))
        return found

    def _roll_out(self, keep_going: KeepGoing, sampled: bool) -> list[Rollout]:
        """Rollouts of the current policy."""
        found = []
        for index in range(self.config.rollouts_per_iteration):
            self._check(keep_going)
            found.append(self.robot.rollout(self.current, seed=self.rollout_seed(index), sampled=sampled))
        return found

    def _fit(self, keep_going: KeepGoing) -> float:
        """Fits the model when there is new data. Returns the loss, NaN without a fit."""
        loss = float("nan")
        if len(self.data) == self._fitted:
            return loss
        try:
            for _ in range(self.config.fits if self.dynamics.learns else 0):
                loss = self.dynamics.fit(self.data, self.seed, keep_going).loss
        except FitInterrupted as interrupted:
            raise TrainingInterrupted(str(interrupted)) from None
        self._fitted = len(self.data)
        return loss

    def _begin(self, keep_going: KeepGoing) -> None:
        """What comes before the first iteration: data to begin with, and the scale of what networks observe."""
        if self._fitted > 0:
            return
        if not len(self.data):
            self._add(self._explore(keep_going))
        for network in (self.current, self.value, self.target):
            network.normalise(self._states())

    def _step_policy(self, gain: Tensor) -> float:
        """A step of Adam along the gradient of `gain` by the policy's weights. Returns its norm, before it is cut.

        Raises TrainingError when that is not finite.
        """
        parameters = list(self.current.parameters())
        gradients = torch.autograd.grad(gain, parameters, allow_unused=True)
        for parameter_, gradient in zip(parameters, gradients, strict=True):
            parameter_.grad = None if gradient is None else -gradient
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip))
        if not np.isfinite(norm):
            raise TrainingError(f"trainer {self.kind!r}: the policy's gradient is not finite")
        self._optimisers["policy_adam"].step()
        return norm

    def _step_value(self, states: Tensor, returns: Tensor, weights: Tensor | float = 1.0) -> float:
        """A step of the value function's regression in states [..., n] on returns [...]. Returns the loss, of errors in
        rewards a step.
        """
        error = (self.value(states) - returns) * (1.0 - self.config.discount)
        loss = (weights * torch.nn.functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")).mean()
        optimiser = self._optimisers["value_adam"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.value.parameters(), self.config.gradient_clip)
        optimiser.step()
        return float(loss.detach())

    def _imagined_return(self, keep_going: KeepGoing) -> float:
        """Return of an episode of the current policy, without noise, as the model expects it: mean over starts and
        members. What is known of a policy that was not rolled out.
        """
        starts = [self.robot.drawn_start(self.torch_seed("judged_starts", index)) for index in range(JUDGED_STARTS)]
        generator = torch.Generator().manual_seed(self.torch_seed("judged"))
        members = self.dynamics.members
        state = torch.from_numpy(np.array(starts)).float().unsqueeze(1).expand(-1, members, -1)
        total = torch.zeros(JUDGED_STARTS)
        going = torch.ones(JUDGED_STARTS, members)
        with torch.no_grad():
            for _ in range(self.robot.steps):
                self._check(keep_going)
                action = self.current.mode(state)
                prediction = self.dynamics.predict(state.transpose(0, 1), action.transpose(0, 1))
                noise = torch.randn(prediction.mean.shape, generator=generator)
                following = (prediction.mean + prediction.variance.sqrt() * noise).transpose(0, 1)
                total += (going * self.robot.task.reward(state, action, following)).mean(dim=1)
                going = going * (~self.robot.task.terminated(following)).float()
                state = following
        return float(total.mean())

    def _check(self, keep_going: KeepGoing) -> None:
        """Raises TrainingInterrupted when training is to stop."""
        if not keep_going():
            raise TrainingInterrupted(f"trainer {self.kind!r}: stopped in iteration {self.iteration + 1}")

    def _states(self) -> Tensor:
        """States [N, n] in which the actions of the data were taken."""
        return torch.from_numpy(self.data.state).float()

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays = {f"data/{name}": getattr(self.data, name).copy() for name in COLUMNS}
        arrays |= {f"model/{name}": value for name, value in self.dynamics.state_arrays().items()}
        for name, module in self._modules().items():
            arrays |= module_arrays(name, module)
        for name, optimiser in self._optimisers.items():
            arrays |= optimiser_arrays(name, optimiser)
        return arrays, {"fitted": self._fitted, "model": self.dynamics.configuration_mapping()}

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        mine = self.dynamics.configuration_mapping()
        if information["model"] != mine:
            raise CheckpointError(f"trainer's model: got {information['model']}, expected {mine}")
        try:
            data = Transitions(*(arrays[f"data/{name}"] for name in COLUMNS))
            self.dynamics.load_arrays(under("model/", arrays))
        except (ModelError, ValueError) as error:
            raise CheckpointError(f"trainer {self.kind!r}: {error}") from None
        self.data, self._fitted = data, int(information["fitted"])
        for name, module in self._modules().items():
            restore_module(name, module, arrays)
        for name, optimiser in self._optimisers.items():
            restore_optimiser(name, optimiser, arrays)

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"policy": self.current, "value": self.value, "target": self.target}


def _empty(states: int, actions: int) -> Transitions:
    return Transitions(
        np.zeros((0, states)), np.zeros((0, actions)), np.zeros((0, states)),
        np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64),
    )  # fmt: skip
