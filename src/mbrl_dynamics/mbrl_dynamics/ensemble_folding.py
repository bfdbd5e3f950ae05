# SPDX-License-Identifier: Apache-2.0
"""An ensemble's weights with normalisation folded in: from SI units to SI units, nothing left to do per step."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.encoding import Normalisation


@dataclass(frozen=True)
class FoldedEnsemble:
    """Frozen copies. Inputs are the encoder's, not normalised; outputs [change of state, log variance].

    layers: weight [members, inputs, outputs] and bias [members, 1, outputs] of each hidden layer; weight_out, bias_out
    likewise; linear [members, inputs, state_size], the linear path to the change of state. The log variance's bounds,
    each [state_size, 1]: log deviation = offset + softplus(range - softplus(upper - log variance)) / 2.
    """

    layers: list[tuple[Tensor, Tensor]]
    weight_out: Tensor
    bias_out: Tensor
    linear: Tensor
    upper: Tensor
    range: Tensor
    offset: Tensor

    @staticmethod
    def of(normalisation: Normalisation, weights: Mapping[str, Tensor]) -> "FoldedEnsemble":
        """Folds the present weights."""
        frozen = {name: value.detach() for name, value in weights.items()}
        scale, mean = normalisation.input_scale.unsqueeze(1), normalisation.input_mean.unsqueeze(0)
        gain, size = normalisation.output_scale, len(normalisation.output_scale)
        first = frozen["weight_0"] / scale
        linear = frozen["weight_linear"] / scale
        layers = [(first, frozen["bias_0"] - mean @ first)]
        while f"weight_{len(layers)}" in frozen:
            layers.append((frozen[f"weight_{len(layers)}"].clone(), frozen[f"bias_{len(layers)}"].clone()))
        weight, bias = frozen["weight_out"].clone(), frozen["bias_out"].clone()
        weight[..., :size] *= gain
        bias[..., :size] = (bias[..., :size] - mean @ linear) * gain + normalisation.output_mean
        # Half of the log variance is the log deviation; the output's scale is a summand of it.
        upper = frozen["log_variance_upper"].clone().unsqueeze(1)
        lower = frozen["log_variance_lower"].unsqueeze(1)
        offset = 0.5 * lower + torch.log(gain).unsqueeze(1)
        return FoldedEnsemble(layers, weight, bias, linear * gain, upper, upper - lower, offset)
