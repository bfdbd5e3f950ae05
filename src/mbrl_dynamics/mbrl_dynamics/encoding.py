# SPDX-License-Identifier: Apache-2.0
"""From states and actions to a model's inputs, and from its outputs to the change of state."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_core.dataset import Transitions
from mbrl_core.specs import RobotSpec, state_difference


class Encoder:
    """Inputs of a model: linear states as they are, angles as sine and cosine, actions.

    Input order: [linear states, sines, cosines, actions], `size` of them.
    """

    def __init__(self, spec: RobotSpec) -> None:
        angular = spec.state.angular
        self.angular = angular
        self.linear_index = torch.as_tensor(np.flatnonzero(~angular))
        self.angular_index = torch.as_tensor(np.flatnonzero(angular))
        self.linear_count = len(self.linear_index)
        self.angular_count = len(self.angular_index)
        self.action_size = spec.action.size
        self.state_size = spec.state.size
        self.size = self.linear_count + 2 * self.angular_count + self.action_size
        self._action_lower = np.array(spec.action.lower)
        self._action_upper = np.array(spec.action.upper)

    def to(self, device: torch.device) -> "Encoder":
        """A copy that encodes on `device`."""
        twin = copy.copy(self)
        twin.linear_index, twin.angular_index = self.linear_index.to(device), self.angular_index.to(device)
        return twin

    def encode(self, state: Tensor, action: Tensor) -> Tensor:
        """state [..., state_size], action [..., action_size] -> inputs [..., size]."""
        angles = state[..., self.angular_index]
        return torch.cat([state[..., self.linear_index], torch.sin(angles), torch.cos(angles), action], dim=-1)

    def change(self, transitions: Transitions) -> np.ndarray:
        """Change of state [n, state_size], the shorter way round for angles."""
        return state_difference(transitions.next_state, transitions.state, self.angular)

    def difference(self, state: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """state minus reference [..., state_size], the shorter way round for angles."""
        return state_difference(state, reference, self.angular)

    def input_normalisation(self, transitions: Transitions) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale [size] of the inputs.

        Linear states by their statistics, actions by their limits. Sines and cosines have a range of one already, and
        their statistics would blow up what data near one angle has not shown yet.
        """
        mean, scale = np.zeros(self.size), np.ones(self.size)
        linear = transitions.state[:, ~self.angular]
        mean[: self.linear_count] = linear.mean(axis=0)
        scale[: self.linear_count] = safe_scale(linear.std(axis=0))
        mean[self.size - self.action_size :] = (self._action_upper + self._action_lower) / 2.0
        scale[self.size - self.action_size :] = safe_scale((self._action_upper - self._action_lower) / 2.0)
        return mean, scale


@dataclass
class Normalisation:
    """Scales between SI units and what a model computes with: inputs [size], outputs [state_size]."""

    input_mean: Tensor
    input_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor

    @staticmethod
    def identity(encoder: Encoder) -> "Normalisation":
        """Before any data."""
        inputs, outputs = encoder.size, encoder.state_size
        return Normalisation(torch.zeros(inputs), torch.ones(inputs), torch.zeros(outputs), torch.ones(outputs))

    def to(self, device: torch.device) -> "Normalisation":
        """A copy on `device`."""
        return Normalisation(*(value.to(device, copy=True) for value in vars(self).values()))

    @staticmethod
    def of(encoder: Encoder, transitions: Transitions) -> "Normalisation":
        """From data."""
        change = encoder.change(transitions)
        values = (*encoder.input_normalisation(transitions), change.mean(axis=0), safe_scale(change.std(axis=0)))
        return Normalisation(*(torch.as_tensor(value, dtype=torch.float32) for value in values))


def safe_scale(scale: np.ndarray) -> np.ndarray:
    """A variable that never moved keeps its unit: dividing by its deviation would amplify rounding."""
    return np.where(scale > 1e-6, scale, 1.0)
