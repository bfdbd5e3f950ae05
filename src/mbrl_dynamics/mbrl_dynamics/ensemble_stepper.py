# SPDX-License-Identifier: Apache-2.0
"""The ensemble's step for rollouts: normalisation folded into the weights, no allocation."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mbrl_dynamics.encoding import Encoder, Normalisation
from mbrl_dynamics.ensemble_folding import FoldedEnsemble
from mbrl_dynamics.model import Stepper


class EnsembleStepper(Stepper):
    """Frozen copy of an ensemble for `rows` rows a member.

    Inputs are [state, sin(state), cos(state), action] with zero weights where a variable is not used in that form: a
    few idle rows cost less than gathering the used ones. Everything is transposed, [members, features, rows]: matrix
    products with few outputs are several times faster that way round.
    """

    def __init__(
        self, encoder: Encoder, normalisation: Normalisation, weights: Mapping[str, Tensor], rows: int
    ) -> None:
        folded = FoldedEnsemble.of(normalisation, weights)
        members = len(folded.linear)
        self._size = size = encoder.state_size
        first, bias = folded.layers[0]
        self._layers = [(_transposed(_spread(first, encoder)), _transposed(bias))]
        self._layers += [(_transposed(weight), _transposed(bias)) for weight, bias in folded.layers[1:]]
        # Outputs are [mean of the next state, log variance]; the linear path adds to the mean alone.
        self._weight_out, self._bias_out = _transposed(folded.weight_out), _transposed(folded.bias_out)
        self._linear = torch.zeros(members, 2 * size, 3 * size + encoder.action_size, device=first.device)
        self._linear[:, :size] = _spread(folded.linear, encoder).transpose(1, 2)
        self._linear[:, :size, :size] += torch.eye(size, device=first.device)  # the next state, not its change
        self._upper, self._range, self._offset = folded.upper, folded.range, folded.offset
        device = folded.linear.device
        self._inputs = torch.zeros(members, 3 * size + encoder.action_size, rows, device=device)
        self._state, self._sine, self._cosine, self._action = self._inputs.split(
            [size, size, size, encoder.action_size], dim=1
        )
        self._hidden = [torch.empty(members, weight.shape[1], rows, device=device) for weight, _ in self._layers]
        self._outputs = torch.empty(members, 2 * size, rows, device=device)
        self._recorded = _Recorded(self._compute) if device.type == "cuda" else None

    @torch.no_grad()
    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        self._state.copy_(state)
        self._action.copy_(action)
        return self._compute() if self._recorded is None else self._recorded.replay()

    def _compute(self) -> tuple[Tensor, Tensor]:
        torch.sin(self._state, out=self._sine)
        torch.cos(self._state, out=self._cosine)
        hidden = self._inputs
        for (weight, bias), buffer in zip(self._layers, self._hidden, strict=True):
            hidden = torch.nn.functional.silu(torch.baddbmm(bias, weight, hidden, out=buffer), inplace=True)
        outputs = torch.baddbmm(self._bias_out, self._weight_out, hidden, out=self._outputs)
        outputs.baddbmm_(self._linear, self._inputs)
        mean, log_variance = outputs[:, : self._size], outputs[:, self._size :]
        # Two short allocations: softplus writes into its argument nowhere.
        bounded = torch.nn.functional.softplus(self._upper - log_variance)
        bounded = torch.nn.functional.softplus(torch.sub(self._range, bounded, out=bounded))
        deviation = torch.add(self._offset, bounded, alpha=0.5, out=bounded).exp_()
        return mean, deviation


class _Recorded:
    """What `compute` does on the GPU, replayed in one launch: a step is a dozen small kernels, which take longer to
    start than to run. Its arguments and results stay in the same memory."""

    @torch.no_grad()
    def __init__(self, compute: Callable[[], tuple[Tensor, Tensor]]) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            compute()  # libraries set themselves up, which may not be recorded
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = compute()

    def replay(self) -> tuple[Tensor, Tensor]:
        self._graph.replay()
        return self._result


def _transposed(values: Tensor) -> Tensor:
    """[members, inputs, outputs] -> [members, outputs, inputs], a copy."""
    return values.transpose(1, 2).contiguous()


def _spread(weight: Tensor, encoder: Encoder) -> Tensor:
    """Rows of [linear, sine, cosine, action] -> rows of [state, sin(state), cos(state), action]."""
    size, linear, angles = encoder.state_size, encoder.linear_count, encoder.angular_count
    result = torch.zeros(weight.shape[0], 3 * size + encoder.action_size, weight.shape[2], device=weight.device)
    result[:, encoder.linear_index] = weight[:, :linear]
    result[:, size + encoder.angular_index] = weight[:, linear : linear + angles]
    result[:, 2 * size + encoder.angular_index] = weight[:, linear + angles : linear + 2 * angles]
    result[:, 3 * size :] = weight[:, linear + 2 * angles :]
    return result
