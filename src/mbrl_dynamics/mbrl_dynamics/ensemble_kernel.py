# SPDX-License-Identifier: Apache-2.0
"""The ensemble's whole rollout in the compiled library: weights packed once, results the torch path's within dtype."""

import math

import torch
from torch import Tensor

from mbrl_dynamics.encoding import Encoder
from mbrl_dynamics.ensemble_folding import FoldedEnsemble
from mbrl_dynamics.kernels import (
    BFLOAT16_TILES,
    FLOAT32,
    KEEP_GOING,
    PROPAGATION_NUMBERS,
    TILE,
    Kernels,
    ModelStructure,
    RolloutStructure,
    Variant,
)
from mbrl_dynamics.model import KeepGoing, RolloutInterrupted
from mbrl_dynamics.propagation import Draws

TILE_OUTPUTS, TILE_INPUTS = 16, 32  # of BFLOAT16_TILES
LOG2_E = math.log2(math.e)


class EnsembleKernel:
    """Frozen copy of an ensemble, in the layout of a variant of the library.

    With z = -log2(e) y for the input y of a unit, silu(y) = -ln(2) z / (1 + 2^z). The library computes z / (1 + 2^z):
    the factors are in the first layer's weights, all biases and the last layer's weights, and cancel in between.
    """

    def __init__(self, library: Kernels, variant: Variant, encoder: Encoder, folded: FoldedEnsemble) -> None:
        self._library, self.variant = library, variant
        self._members = len(folded.linear)
        size = encoder.state_size
        hidden, outputs = _padded(folded.layers[0][0].shape[2]), _padded(2 * size)
        first, *others = (weight for weight, _ in folded.layers)
        biases = torch.stack([_pad_last(bias, hidden) for _, bias in folded.layers], dim=1)
        middle = [self._pack(weight, hidden, hidden) for weight in others]
        linear_index, angular_index = (index.int() for index in (encoder.linear_index, encoder.angular_index))
        self._arrays = {
            "linear_index": linear_index,
            "angular_index": angular_index,
            "first": _tiles(_pad_last(-LOG2_E * first, hidden)),
            "hidden_bias": -LOG2_E * biases,
            "hidden": torch.stack(middle, dim=1) if middle else torch.zeros(0),
            "out": self._pack(-math.log(2.0) * folded.weight_out, hidden, outputs),
            "out_bias": _pad_last(folded.bias_out, outputs),
            "linear": folded.linear.transpose(1, 2),
            "bounds": torch.stack([folded.upper, folded.range, folded.offset]),
        }
        self._arrays = {name: values.contiguous() for name, values in self._arrays.items()}
        self._structure = ModelStructure(
            members=self._members,
            state_size=size,
            action_size=encoder.action_size,
            linear_count=encoder.linear_count,
            angular_count=encoder.angular_count,
            hidden_layers=len(folded.layers),
            hidden_size=hidden,
            output_size=outputs,
            **{name: values.data_ptr() for name, values in self._arrays.items()},
        )

    def rollout(
        self,
        state: Tensor,
        actions: Tensor,
        draws: Draws,
        threads: int,
        keep_going: KeepGoing | None = None,
    ) -> Tensor:
        """States [N, P, H + 1, state_size] of actions [N, H, action_size] from state [state_size].

        Raises RolloutInterrupted once `keep_going`, asked by the calling thread between pieces of work, says no.
        """
        raised: list[BaseException] = []

        def ask() -> int:
            try:
                return int(keep_going is None or bool(keep_going()))
            except BaseException as error:  # ctypes would print it and go on
                raised.append(error)
                return 0

        count, horizon, _ = actions.shape
        start = state.float().contiguous()
        by_step = actions.float().permute(1, 2, 0).contiguous()
        member, noise = (values.contiguous() for values in draws.by_particle(self._members))
        states = torch.empty(horizon + 1, draws.particles, len(state), count)
        structure = RolloutStructure(
            candidates=count,
            horizon=horizon,
            particles=draws.particles,
            propagation=PROPAGATION_NUMBERS[draws.propagation],
            threads=threads,
            state=start.data_ptr(),
            actions=by_step.data_ptr(),
            member=member.data_ptr(),
            noise=noise.data_ptr(),
            states=states.data_ptr(),
            keep_going=KEEP_GOING() if keep_going is None else KEEP_GOING(ask),
        )
        try:
            self._library.rollout(self.variant, self._structure, structure)
        except RolloutInterrupted:
            if raised:
                raise raised[0] from None
            raise
        return states.permute(3, 1, 0, 2)

    def _pack(self, weight: Tensor, inputs: int, outputs: int) -> Tensor:
        """[members, inputs, outputs] -> padded tiles in the variant's layout."""
        if self.variant.layout == BFLOAT16_TILES:
            inputs, outputs = _padded(inputs, TILE_INPUTS), _padded(outputs, TILE_OUTPUTS)
        weight = _pad_last(weight, outputs)
        weight = torch.nn.functional.pad(weight, (0, 0, 0, inputs - weight.shape[1]))
        if self.variant.layout == FLOAT32:
            return _tiles(weight)
        if self.variant.layout == BFLOAT16_TILES:
            tiles = weight.bfloat16().unflatten(2, (-1, TILE_OUTPUTS)).unflatten(1, (-1, TILE_INPUTS))
            return tiles.permute(0, 3, 1, 4, 2).contiguous()
        pairs = weight.bfloat16().unflatten(1, (-1, 2)).movedim(2, 3).contiguous()  # [.., inputs / 2, outputs, 2]
        return _tiles(pairs.view(torch.int32).squeeze(3))


def _padded(size: int, tile: int = TILE) -> int:
    return -(-size // tile) * tile


def _pad_last(values: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, size - values.shape[-1]))


def _tiles(weight: Tensor) -> Tensor:
    """[members, elements, outputs] -> [members, outputs / 8, elements, 8]."""
    return weight.unflatten(2, (-1, TILE)).movedim(2, 1).contiguous()
