# SPDX-License-Identifier: Apache-2.0
"""Problems with known answers."""

from pathlib import Path

import numpy as np
import torch

from mbrl_core.dataset import Transitions
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import ActionSpec, Array, RobotSpec, StateSpec
from mbrl_dynamics.model import DynamicsModel, GaussianPrediction
from mbrl_dynamics.registry import DYNAMICS

SPEC = RobotSpec(
    name="cart_with_pointer",
    period=0.05,
    state=StateSpec(
        names=("slider_position", "pointer_position", "slider_velocity", "pointer_velocity"),
        kinds=("linear", "angular", "linear", "linear"),
        units=("m", "rad", "m/s", "rad/s"),
        lower=(-np.inf,) * 4,
        upper=(np.inf,) * 4,
    ),
    action=ActionSpec(("slider",), ("effort",), ("N",), (-2.0,), (2.0,), (1.0,), (np.inf,)),
)
# Known dynamics are those of a robot: one with states and actions of the same sizes and kinds as SPEC.
ROBOT_FILE = Path(__file__).parents[3] / "config" / "robots" / "cartpole.yaml"
LEARNED_KINDS = [kind for kind in DYNAMICS.names() if DYNAMICS.get(kind).implementation.learns]
NOISE = np.array([0.002, 0.01, 0.05, 0.1])


def spec_of(kind: str) -> RobotSpec:
    """The robot that a model of this kind is tested on."""
    return SPEC if kind in LEARNED_KINDS else load_robot(ROBOT_FILE).spec


def true_change(state: Array, action: Array) -> Array:
    """A pendulum on a driven cart, without back reaction: [n, 4], [n, 1] -> [n, 4]."""
    push = 0.4 * action[:, 0]
    swing = -0.5 * np.sin(state[:, 1]) - 0.2 * push * np.cos(state[:, 1])
    velocity = np.stack([push - 0.05 * state[:, 2], swing - 0.02 * state[:, 3]], axis=1)
    return np.concatenate([SPEC.period * (state[:, 2:] + 0.5 * velocity), velocity], axis=1)


def linear_change(state: Array, action: Array) -> Array:
    """Linear in states that do not wrap, and in the action."""
    velocity = np.stack([0.4 * action[:, 0] - 0.05 * state[:, 2], 0.1 * state[:, 0] - 0.2 * state[:, 3]], axis=1)
    return np.concatenate([SPEC.period * state[:, 2:], velocity], axis=1)


def sample(count: int, seed: int, change=true_change, noise: Array | float = 0.0) -> Transitions:
    """Independent transitions; angles are wrapped, so that some go over the end of their range."""
    random = np.random.default_rng(seed)
    state = random.normal(size=(count, 4)) * [1.0, 0.0, 1.5, 2.0]
    state[:, 1] = random.uniform(-np.pi, np.pi, count)
    action = random.uniform(-2.0, 2.0, (count, 1))
    next_state = state + change(state, action) + noise * random.normal(size=(count, 4))
    next_state[:, 1] = (next_state[:, 1] + np.pi) % (2.0 * np.pi) - np.pi
    return Transitions(state, action, next_state, np.ones(count, dtype=np.int64), np.arange(count))


def predictions(model: DynamicsModel, data: Transitions) -> GaussianPrediction:
    """What each member predicts for `data`."""
    with torch.no_grad():
        return model.predict(
            torch.as_tensor(data.state, dtype=torch.float32), torch.as_tensor(data.action, dtype=torch.float32)
        )


def normalised_error(model: DynamicsModel, data: Transitions, change=true_change) -> Array:
    """Root mean square error [4] of the mean of the members, over the standard deviation of the true change."""
    mean = predictions(model, data).mean.mean(dim=0).numpy() - data.state
    truth = change(data.state, data.action)
    return np.sqrt(np.mean((mean - truth) ** 2, axis=0)) / truth.std(axis=0)
