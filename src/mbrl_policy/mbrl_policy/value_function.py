# SPDX-License-Identifier: Apache-2.0
"""What a state is worth: a network, and the returns that it is fitted to."""

import itertools

import torch
from torch import Tensor, nn

from mbrl_core.specs import RobotSpec
from mbrl_dynamics.encoding import Encoder

LEAST_SCALE = 1e-3  # of a linear state variable, SI units: one that never varies is not blown up


class ValueFunction(nn.Module):
    """Discounted return [...] to be had from states [..., state_size].

    A network of tanh units on linear variables, normalised, and the sines and cosines of angles. Its output is a reward
    a step: the value is that divided by 1 - discount, so that weights of ordinary size serve any discount.
    """

    observation_shift: Tensor
    observation_scale: Tensor

    def __init__(self, spec: RobotSpec, hidden_layers: int, hidden_units: int, discount: float, seed: int) -> None:
        super().__init__()
        self._encoder = Encoder(spec)
        self._horizon = 1.0 / (1.0 - discount)
        count = self._encoder.linear_count
        self.register_buffer("observation_shift", torch.zeros(count))
        self.register_buffer("observation_scale", torch.ones(count))
        sizes = [count + 2 * self._encoder.angular_count] + [hidden_units] * hidden_layers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for inputs, outputs in itertools.pairwise(sizes):
                layers += [nn.Linear(inputs, outputs), nn.Tanh()]
            last = nn.Linear(sizes[-1], 1)
        with torch.no_grad():
            # Slopes of random weights, times 1 / (1 - discount), would lead a policy astray before anything is known.
            last.weight.zero_()
            last.bias.zero_()
        self.layers = nn.Sequential(*layers, last)

    def forward(self, state: Tensor) -> Tensor:
        """See the class."""
        angles = state[..., self._encoder.angular_index]
        linear = (state[..., self._encoder.linear_index] - self.observation_shift) / self.observation_scale
        observation = torch.cat([linear, torch.sin(angles), torch.cos(angles)], dim=-1)
        return self._horizon * self.layers(observation).squeeze(-1)

    @torch.no_grad()
    def normalise(self, states: Tensor) -> None:
        """Takes shift and scale of the linear variables from states [N, state_size], N >= 2."""
        linear = states[..., self._encoder.linear_index]
        self.observation_shift.copy_(linear.mean(dim=0))
        self.observation_scale.copy_(linear.std(dim=0).clamp_min(LEAST_SCALE))

    @torch.no_grad()
    def follow(self, other: "ValueFunction", rate: float) -> None:
        """Moves all weights by a share `rate` towards another's; its normalisation is taken over whole."""
        for own, theirs in zip(self.parameters(), other.parameters(), strict=True):
            own.lerp_(theirs, rate)
        for own, theirs in zip(self.buffers(), other.buffers(), strict=True):
            own.copy_(theirs)


def mixed_returns(rewards: Tensor, values: Tensor, discount: Tensor | float, mixing: float) -> Tensor:
    """Lambda returns [..., H] of rewards [..., H] of steps and values [..., H] of the states that they lead to:

        G_t = r_t + discount_t ((1 - mixing) v_{t+1} + mixing G_{t+1}),   G_H = v_H

    (Sutton and Barto 2018, equation 12.20, truncated). `discount` is a number, or [..., H] with zeros where the
    episode ends. With mixing 1 they are the rewards up to the horizon and the value there; with 0, those of one step.
    """
    steps = rewards.shape[-1]
    discounts = torch.as_tensor(discount, dtype=rewards.dtype, device=rewards.device).expand_as(rewards)
    following = values[..., -1]
    returns: list[Tensor] = []
    for step in reversed(range(steps)):
        blended = (1.0 - mixing) * values[..., step] + mixing * following
        following = rewards[..., step] + discounts[..., step] * blended
        returns.append(following)
    return torch.stack(returns[::-1], dim=-1)
