# SPDX-License-Identifier: Apache-2.0
"""Rollouts of robots' known dynamics under one open-loop controller with noise, and errors of local dynamics there."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot, load_robot, start_state
from mbrl_core.specs import Array, state_difference
from mbrl_dynamics.local_linear import LocalDynamics
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model

ROBOTS = Path(__file__).resolve().parents[1] / "config" / "robots"
# Greatest amplitude of the controllers' actions, of the limits: what swings well without running into end stops.
REACH = {"acrobot": 1.0, "cartpole": 0.4, "reacher": 0.1}
PERIODS = (0.5, 1.5)  # s, of the controllers' actions
NOISE = 0.1  # standard deviation of the noise on each action, of REACH


@dataclass(frozen=True)
class Rollouts:
    """states [R, H + 1, n] and actions [R, H, m] as executed."""

    states: Array
    actions: Array


class Scene:
    """A robot whose true dynamics are known."""

    def __init__(self, name: str, horizon: int) -> None:
        path = ROBOTS / f"{name}.yaml"
        self.robot: Robot = load_robot(path)
        self.spec = self.robot.spec
        self.horizon = horizon
        self.truth: DynamicsModel = make_model("mujoco", {"robot_file": str(path), "threads": 1}, self.spec, 0)
        self._upper = np.array(self.spec.action.upper)

    def rollouts(self, seed: int, controller: int, count: int) -> Rollouts:
        """`count` rollouts under one controller, each from a start of its own: the first ones are always the same."""
        random = generator(seed, controller, 0, "local/controller")
        size, reach = self.spec.action.size, REACH[self.spec.name]
        amplitude = reach * random.choice([-1.0, 1.0], size) * random.uniform(0.5, 1.0, size)
        pulse = 2.0 * np.pi / random.uniform(*PERIODS, size)
        nominal = amplitude * np.cos(pulse * self.spec.period * np.arange(self.horizon)[:, None])
        states = np.empty((count, self.horizon + 1, self.spec.state.size))
        noise = np.empty((count, *nominal.shape))
        for index in range(count):
            own = generator(seed, controller, index, "local/rollout")
            states[index, 0], noise[index] = start_state(self.robot, own), own.normal(size=nominal.shape)
        actions = np.clip(nominal + NOISE * reach * noise, -1.0, 1.0) * self._upper
        for step in range(self.horizon):
            states[:, step + 1] = self._step(states[:, step], actions[:, step])
        return Rollouts(states, actions)

    def _step(self, state: Array, action: Array) -> Array:
        return np.asarray(self.truth.predict(torch.from_numpy(state), torch.from_numpy(action)).mean[0].numpy())

    def slope_error(self, local: LocalDynamics, many: Rollouts) -> float:
        """Error of [A B] against the true dynamics' slopes at the mean of many rollouts.

        Columns in standard deviations of the inputs over those rollouts, rows in those of the change that they make;
        the norm of the difference over that of the slopes of the change, both over all steps.
        """
        states, size = self._counted(local, many.states)[:, :-1], self.spec.state.size
        inputs = np.concatenate([states, many.actions], axis=-1)
        centre = inputs.mean(axis=0)
        by_state, by_action = self.truth.jacobians(
            *(torch.from_numpy(part) for part in np.split(centre, [size], axis=-1))
        )
        true = np.concatenate([by_state[0].numpy(), by_action[0].numpy()], axis=-1)
        found = np.concatenate([local.matrix, local.control], axis=-1)
        columns = np.sqrt(inputs.var(axis=0).mean(axis=0))
        true_change = true - np.eye(size, inputs.shape[-1])
        rows = np.sqrt(np.square(true_change * columns).sum(axis=-1).mean(axis=0))
        difference = (found - true) * columns / rows[:, None]
        return float(np.linalg.norm(difference) / np.linalg.norm(true_change * columns / rows[:, None]))

    def prediction_error(self, local: LocalDynamics, held_out: Rollouts) -> float:
        """Root mean square error of one step on rollouts that were not fitted, over that of the mean change."""
        states = self._counted(local, held_out.states)
        change = state_difference(held_out.states[:, 1:], held_out.states[:, :-1], self.spec.state.angular)
        predicted = np.stack(
            [local.predict(states[:, step], held_out.actions[:, step], step) for step in range(self.horizon)], axis=1
        )
        wrong = states[:, :-1] + change - predicted
        spread = change - change.mean(axis=0)
        scale = np.sqrt(np.square(spread).mean(axis=(0, 1)))
        return float(np.sqrt(np.square(wrong / scale).mean()))

    def _counted(self, local: LocalDynamics, states: Array) -> Array:
        return states if local.chart is None else local.chart.unwrapped(states)
