# SPDX-License-Identifier: Apache-2.0
"""Likelihood of an ensemble's data and its gradient, written out: half the time of automatic differentiation."""

from collections.abc import Mapping

import torch
from torch import Tensor

# Chua et al. 2018, appendix A.1: the bounds of the log variance are pulled together by a small penalty.
BOUND_PENALTY = 0.01


class LikelihoodGradient:
    """Loss and gradient of all weights of an ensemble; the weights lie in two flat tensors for the optimiser.

    `decayed` holds the weight matrices, `others` biases and variance bounds; `weights` are views into them, by name.
    Each has its gradient in `.grad`.
    """

    def __init__(self, weights: Mapping[str, Tensor], variance_weighting: float) -> None:
        self._beta = variance_weighting
        matrices = [name for name in weights if name.startswith("weight")]
        self.decayed, views, gradients = _flatten({name: weights[name] for name in matrices})
        others = {name: value for name, value in weights.items() if name not in matrices}
        self.others, other_views, other_gradients = _flatten(others)
        self.weights, self._gradients = {**views, **other_views}, {**gradients, **other_gradients}
        self._layers = sum(name.startswith("bias_") for name in weights) - 1

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean negative log likelihood (twice, less its constant) of targets [members, B, outputs] given inputs
        [members, B, inputs]; sets the gradient of the weighted loss that training descends.

        Seitzer et al. 2022, "On the Pitfalls of Heteroscedastic Uncertainty Estimation", equation 5: each term is
        weighted by its predicted variance to the power beta, so that what is not explained yet is not passed over.
        """
        weights, gradients = self.weights, self._gradients
        hidden, sums = [inputs], []
        for layer in range(self._layers):
            sums.append(torch.baddbmm(weights[f"bias_{layer}"], hidden[-1], weights[f"weight_{layer}"]))
            hidden.append(torch.nn.functional.silu(sums[-1]))
        outputs = torch.baddbmm(weights["bias_out"], hidden[-1], weights["weight_out"])
        size = targets.shape[-1]
        error = torch.baddbmm(outputs[..., :size], inputs, weights["weight_linear"]).sub_(targets)
        upper, lower = weights["log_variance_upper"], weights["log_variance_lower"]
        below_upper = upper - outputs[..., size:]
        above_lower = upper - torch.nn.functional.softplus(below_upper) - lower
        log_variance = lower + torch.nn.functional.softplus(above_lower)
        precision = torch.exp(-log_variance)
        surprise = error * error * precision
        loss = (surprise + log_variance).sum(dim=-1).mean()

        share = torch.exp(self._beta * log_variance).mul_(1.0 / (inputs.shape[0] * inputs.shape[1]))
        by_variance = (1.0 - surprise).mul_(share)
        by_bounded = by_variance * torch.sigmoid(above_lower)
        by_output = by_bounded * torch.sigmoid(below_upper)
        by_mean = error.mul_(precision).mul_(share).mul_(2.0)
        torch.sum(by_bounded - by_output, dim=(0, 1), out=gradients["log_variance_upper"]).add_(BOUND_PENALTY)
        torch.sum(by_variance - by_bounded, dim=(0, 1), out=gradients["log_variance_lower"]).sub_(BOUND_PENALTY)
        by_outputs = torch.cat([by_mean, by_output], dim=-1)
        torch.bmm(inputs.transpose(1, 2), by_mean, out=gradients["weight_linear"])
        torch.bmm(hidden[-1].transpose(1, 2), by_outputs, out=gradients["weight_out"])
        torch.sum(by_outputs, dim=1, keepdim=True, out=gradients["bias_out"])
        by_hidden = torch.bmm(by_outputs, weights["weight_out"].transpose(1, 2))
        for layer in reversed(range(self._layers)):
            by_sum = torch.ops.aten.silu_backward(by_hidden, sums[layer])
            torch.bmm(hidden[layer].transpose(1, 2), by_sum, out=gradients[f"weight_{layer}"])
            torch.sum(by_sum, dim=1, keepdim=True, out=gradients[f"bias_{layer}"])
            if layer > 0:
                by_hidden = torch.bmm(by_sum, weights[f"weight_{layer}"].transpose(1, 2))
        return loss


def _flatten(values: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """One tensor with a gradient, and views into both, by name."""
    flat = torch.cat([value.detach().reshape(-1) for value in values.values()])
    flat.grad = torch.zeros_like(flat)
    sizes = [value.numel() for value in values.values()]
    views, gradients = (
        {name: part.view(value.shape) for (name, value), part in zip(values.items(), whole.split(sizes), strict=True)}
        for whole in (flat, flat.grad)
    )
    return flat, views, gradients
