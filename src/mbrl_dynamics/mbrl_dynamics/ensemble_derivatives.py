# SPDX-License-Identifier: Apache-2.0
"""First and second derivatives of an ensemble's mean, written out: a fraction of the time of automatic differentiation.

Forward accumulation: with h = phi(z), z = W h', and x_i, x_j any two of states and actions,

    dh/dx_i        = phi'(z) dz/dx_i
    d2h/dx_i dx_j  = phi''(z) dz/dx_i dz/dx_j + phi'(z) d2z/dx_i dx_j

so that each layer is one product for the values, one for the n + m slopes and one for the (n + m)(n + m + 1) / 2
different curvatures.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mbrl_dynamics.encoding import Encoder, Normalisation


class MeanDerivatives:
    """Derivatives of the mean next state of each member at state [B, n] and action [B, m]."""

    def __init__(self, encoder: Encoder, normalisation: Normalisation, weights: Mapping[str, Tensor]) -> None:
        self._encoder = encoder
        self._normalisation = normalisation
        self._weights = weights
        self._layers = sum(name.startswith("bias_") for name in weights) - 1
        self._both = encoder.state_size + encoder.action_size
        self._first, self._second = torch.triu_indices(self._both, self._both)

    @torch.no_grad()
    def jacobians(self, state: Tensor, action: Tensor) -> Tensor:
        """[members, B, n, n + m], states before actions."""
        return self._derivatives(state, action, False)[0]

    @torch.no_grad()
    def hessians(self, state: Tensor, action: Tensor) -> Tensor:
        """[members, B, n, n + m, n + m]."""
        _, different = self._derivatives(state, action, True)
        hessian = different.new_empty(*different.shape[:3], self._both, self._both)
        hessian[..., self._first, self._second] = different
        hessian[..., self._second, self._first] = different
        return hessian

    def _derivatives(self, state: Tensor, action: Tensor, curved: bool) -> tuple[Tensor, Tensor]:
        """Slopes [members, B, n, n + m] and the different curvatures [members, B, n, pairs], none without `curved`."""
        inputs, slopes, curvatures = (
            values.expand(len(self._weights["weight_0"]), *values.shape)
            for values in self._of_inputs(state, action, curved)
        )
        hidden, by, by_both = inputs, slopes, curvatures
        for layer in range(self._layers):
            weight = self._weights[f"weight_{layer}"]
            value = torch.baddbmm(self._weights[f"bias_{layer}"], hidden, weight)
            by, by_both = _product(by, weight), _product(by_both, weight)
            logistic = torch.sigmoid(value)
            hidden = value * logistic
            first = (logistic * (1.0 + value * (1.0 - logistic))).unsqueeze(2)
            if curved:
                second = logistic * (1.0 - logistic) * (2.0 + value * (1.0 - 2.0 * logistic))
                by_both = first * by_both
                by_both.addcmul_(by[:, :, self._first] * second.unsqueeze(2), by[:, :, self._second])
            by = first * by
        size, scale = self._encoder.state_size, self._normalisation.output_scale
        out, linear = self._weights["weight_out"][..., :size], self._weights["weight_linear"]
        jacobian = ((_product(by, out) + _product(slopes, linear)) * scale).transpose(2, 3)
        jacobian[..., :size] += torch.eye(size, device=jacobian.device)
        return jacobian, ((_product(by_both, out) + _product(curvatures, linear)) * scale).transpose(2, 3)

    def _of_inputs(self, state: Tensor, action: Tensor, curved: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised inputs [B, size], their slopes [B, n + m, size] and curvatures [B, pairs, size]."""
        encoder, scale = self._encoder, self._normalisation.input_scale
        inputs = (encoder.encode(state, action) - self._normalisation.input_mean) / scale
        rows, linear, angles = len(state), encoder.linear_count, encoder.angular_count
        sine_at = linear + torch.arange(angles, device=state.device)
        cosine_at = sine_at + angles
        at = state[:, encoder.angular_index]
        slopes = state.new_zeros(rows, self._both, encoder.size)
        slopes[:, encoder.linear_index, torch.arange(linear, device=state.device)] = 1.0
        slopes[:, encoder.angular_index, sine_at] = torch.cos(at)
        slopes[:, encoder.angular_index, cosine_at] = -torch.sin(at)
        actions = torch.arange(encoder.action_size, device=state.device)
        slopes[:, encoder.state_size + actions, linear + 2 * angles + actions] = 1.0
        curvatures = state.new_zeros(rows, len(self._first) if curved else 0, encoder.size)
        if curved:
            # The pair (i, i) comes after the pairs of all earlier first variables.
            index = encoder.angular_index
            own = index * self._both - index * (index - 1) // 2
            curvatures[:, own, sine_at] = -torch.sin(at)
            curvatures[:, own, cosine_at] = -torch.cos(at)
        return inputs, slopes / scale, curvatures / scale


def _product(values: Tensor, weight: Tensor) -> Tensor:
    """values [members, B, K, inputs] times weight [members, inputs, outputs]."""
    return torch.bmm(values.flatten(1, 2), weight).unflatten(1, values.shape[1:3])
