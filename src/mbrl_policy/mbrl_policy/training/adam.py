# SPDX-License-Identifier: Apache-2.0
"""Adam for small networks: torch's own loads its compiler, which takes seconds, and more time a step."""

from collections.abc import Iterable

import torch
from torch import Tensor

DECAYS = 0.9, 0.999
LEAST = 1e-8


class Adam:
    """Kingma and Ba 2015, "Adam: a method for stochastic optimization" (arXiv:1412.6980), algorithm 1."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self._first = [torch.zeros_like(value) for value in self.parameters]
        self._second = [torch.zeros_like(value) for value in self.parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Iterable[Tensor], learning_rate: float) -> None:
        """Descends along `gradients`, one for each parameter."""
        own = list(gradients)
        self._steps += 1
        torch._foreach_lerp_(self._first, own, 1.0 - DECAYS[0])
        torch._foreach_mul_(self._second, DECAYS[1])
        torch._foreach_addcmul_(self._second, own, own, 1.0 - DECAYS[1])
        corrections = [1.0 - decay**self._steps for decay in DECAYS]
        scale = torch._foreach_sqrt(self._second)
        torch._foreach_div_(scale, corrections[1] ** 0.5)
        torch._foreach_add_(scale, LEAST)
        torch._foreach_addcdiv_(self.parameters, self._first, scale, -learning_rate / corrections[0])
