# SPDX-License-Identifier: Apache-2.0
"""The ensemble's step for rollouts: normalisation folded into the weights, no allocation."""

from typing import Mapping

import torch
from torch import Tensor

from mbrl_dynamics.encoding import Encoder, Normalisation
from mbrl_dynamics.model import Stepper


class EnsembleStepper(Stepper):
    """Frozen copy of an ensemble for `rows` rows a member.

    Inputs are [state, sin(state), cos(state), action] with zero weights where a variable is not used in that form: a few
    idle columns cost less than gathering the used ones.
    """

    def __init__(self, encoder: Encoder, normalisation: Normalisation, weights: Mapping[str, Tensor], rows: int) -> None:
        members = weights["weight_0"].shape[0]
        self._size = size = encoder.state_size
        frozen = {name: value.detach() for name, value in weights.items()}
        scale, mean = normalisation.input_scale.unsqueeze(1), normalisation.input_mean.unsqueeze(0)
        first = frozen["weight_0"] / scale
        linear = frozen["weight_linear"] / scale
        gain = normalisation.output_scale
        self._layers = [(_spread(first, encoder), frozen["bias_0"] - mean @ first)]
        layer = 1
        while f"weight_{layer}" in frozen:
            self._layers.append((frozen[f"weight_{layer}"].clone(), frozen[f"bias_{layer}"].clone()))
            layer += 1
        self._mean_weight = frozen["weight_out"][..., :size] * gain
        bias = frozen["bias_out"][..., :size] - mean @ linear
        self._mean_bias = bias * gain + normalisation.output_mean
        self._linear = _spread(linear * gain, encoder)
        self._linear[:, :size] += torch.eye(size)  # the next state, not its change
        self._variance_weight = frozen["weight_out"][..., size:].clone()
        self._variance_bias = frozen["bias_out"][..., size:].clone()
        # Half of the log variance is the log deviation; the output's scale is a summand of it.
        self._upper = frozen["log_variance_upper"].clone()
        self._lower = frozen["log_variance_lower"].clone()
        self._offset = 0.5 * self._lower + torch.log(gain)
        inputs = 3 * size + encoder.action_size
        self._inputs = torch.zeros(members, rows, inputs)
        self._state, self._sine, self._cosine, self._action = self._inputs.split([size, size, size, encoder.action_size], dim=-1)
        self._hidden = [torch.empty(members, rows, weight.shape[-1]) for weight, _ in self._layers]
        self._mean, self._deviation = torch.empty(2, members, rows, size)

    @torch.no_grad()
    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        self._state.copy_(state)
        torch.sin(state, out=self._sine)
        torch.cos(state, out=self._cosine)
        self._action.copy_(action)
        hidden = self._inputs
        for (weight, bias), buffer in zip(self._layers, self._hidden, strict=True):
            hidden = torch.nn.functional.silu(torch.baddbmm(bias, hidden, weight, out=buffer), inplace=True)
        mean, deviation = self._mean, self._deviation
        torch.baddbmm(self._mean_bias, hidden, self._mean_weight, out=mean)
        mean.baddbmm_(self._inputs, self._linear)
        torch.baddbmm(self._variance_bias, hidden, self._variance_weight, out=deviation)
        # softplus(x) = -log(sigmoid(-x)) has an in-place form nowhere; two short allocations are cheaper than more calls.
        bounded = torch.nn.functional.softplus(deviation.neg_().add_(self._upper))
        bounded = torch.nn.functional.softplus(bounded.neg_().add_(self._upper - self._lower))
        torch.exp(bounded.mul_(0.5).add_(self._offset), out=deviation)
        return mean, deviation


def _spread(weight: Tensor, encoder: Encoder) -> Tensor:
    """Rows of [linear, sine, cosine, action] -> rows of [state, sin(state), cos(state), action]."""
    size, linear, angles = encoder.state_size, encoder.linear_count, encoder.angular_count
    result = torch.zeros(weight.shape[0], 3 * size + encoder.action_size, weight.shape[2])
    result[:, encoder.linear_index] = weight[:, :linear]
    result[:, size + encoder.angular_index] = weight[:, linear : linear + angles]
    result[:, 2 * size + encoder.angular_index] = weight[:, linear + angles : linear + 2 * angles]
    result[:, 3 * size :] = weight[:, linear + 2 * angles :]
    return result
