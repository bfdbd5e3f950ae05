# SPDX-License-Identifier: Apache-2.0
"""How uncertainty is propagated through an ensemble: the names, and the random numbers of one rollout."""

from dataclasses import dataclass

import torch
from torch import Tensor

PROPAGATIONS = ("ts1", "tsinf", "ds", "mm", "mean")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Draws:
    """Random numbers of a rollout, the same for all action sequences.

    noise [H, P, state_size] is standard normal; order [H, P] is, for `ts1` with several members alone, the particle at
    each place, of which the first P / members belong to member 0 and so on. Noise goes with the place.
    """

    noise: Tensor
    order: Tensor | None

    @staticmethod
    def of(
        propagation: str, members: int, horizon: int, particles: int, size: int, generator: torch.Generator
    ) -> "Draws":
        """Draws on the processor whatever device computes, so that every device sees the same numbers."""
        if propagation == "mean":
            return Draws(torch.zeros(horizon, 1, size), None)
        noise = torch.randn(horizon, particles, size, generator=generator)
        if propagation == "ts1" and members > 1:
            return Draws(noise, torch.rand(horizon, particles, generator=generator).argsort(dim=1))
        return Draws(noise, None)

    @property
    def particles(self) -> int:
        """P: one for `mean`."""
        return self.noise.shape[1]

    def to(self, device: torch.device) -> "Draws":
        """The same numbers on another device."""
        return Draws(self.noise.to(device), None if self.order is None else self.order.to(device))

    def by_particle(self, members: int) -> tuple[Tensor, Tensor]:
        """Member [H, P] (int32) of each particle and its noise [H, P, state_size]."""
        horizon, particles, size = self.noise.shape
        place = torch.arange(particles).expand(horizon, particles)
        noise = self.noise
        if self.order is not None:
            place = self.order.argsort(dim=1)
            noise = noise.gather(1, place.unsqueeze(2).expand(-1, -1, size))
        return (place // max(particles // members, 1)).int(), noise
