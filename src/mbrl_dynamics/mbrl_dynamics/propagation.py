# SPDX-License-Identifier: Apache-2.0
"""How uncertainty is propagated through an ensemble: the names, the random numbers of a rollout, and one step of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.model import DynamicsModel, Stepper

PROPAGATIONS = ("ts1", "tsinf", "ds", "mm", "mean")
PRECISIONS = ("auto", "float32", "bfloat16")
SAMPLED = ("ts1", "tsinf")  # each particle meets one member a step; else it meets all of them
LEAST_VARIANCE = 1e-30


def check_propagation(model: DynamicsModel, particles: int, propagation: str) -> None:
    """Raises ValueError on an unknown propagation or when `particles` is not a multiple of the model's members."""
    if propagation not in PROPAGATIONS:
        raise ValueError(f"propagation: got {propagation!r}, expected one of {', '.join(PROPAGATIONS)}")
    if propagation != "mean" and (particles < 1 or particles % model.members):
        raise ValueError(f"particles: got {particles}, expected a multiple of the model's {model.members} members")


@dataclass(frozen=True)
class Draws:
    """Random numbers of a rollout, the same for all action sequences.

    noise [H, P, state_size] is standard normal; order [H, P] is, for `ts1` with several members alone, the particle at
    each place, of which the first P / members belong to member 0 and so on. Noise goes with the place.
    """

    propagation: str
    noise: Tensor
    order: Tensor | None

    @staticmethod
    def of(
        propagation: str, members: int, horizon: int, particles: int, size: int, generator: torch.Generator
    ) -> "Draws":
        """Draws on the processor whatever device computes, so that every device sees the same numbers."""
        if propagation == "mean":
            return Draws(propagation, torch.zeros(horizon, 1, size), None)
        noise = torch.randn(horizon, particles, size, generator=generator)
        if propagation == "ts1" and members > 1:
            return Draws(propagation, noise, torch.rand(horizon, particles, generator=generator).argsort(dim=1))
        return Draws(propagation, noise, None)

    @property
    def particles(self) -> int:
        """P: one for `mean`."""
        return self.noise.shape[1]

    def rows(self, members: int) -> int:
        """Particles of one action sequence that each member sees at a step: its share of them, or all."""
        return self.particles // members if self.propagation in SAMPLED else self.particles

    def to(self, device: torch.device) -> "Draws":
        """The same numbers on another device."""
        order = None if self.order is None else self.order.to(device)
        return Draws(self.propagation, self.noise.to(device), order)

    def by_particle(self, members: int) -> tuple[Tensor, Tensor]:
        """Member [H, P] (int32) of each particle and its noise [H, P, state_size]."""
        horizon, particles, size = self.noise.shape
        place = torch.arange(particles).expand(horizon, particles)
        noise = self.noise
        if self.order is not None:
            place = self.order.argsort(dim=1)
            noise = noise.gather(1, place.unsqueeze(2).expand(-1, -1, size))
        return (place // max(particles // members, 1)).int(), noise


class Propagator:
    """One step after another through a stepper, by operations that autograd knows; see `rollout` for what is done."""

    def __init__(self, stepper: Stepper, members: int, draws: Draws) -> None:
        self._stepper = stepper
        self._members = members
        self._draws = draws

    def advance(self, step: int, state: Tensor, action: Tensor) -> Tensor:
        """Next states of state [P, state_size, N] under action [P, action_size, N]."""
        noise = self._draws.noise[step].unsqueeze(2)
        if self._draws.propagation in SAMPLED:
            return self._advance_sampled(step, state, action, noise)
        particles, size, count = state.shape
        rows = (values.transpose(0, 1).flatten(1).expand(self._members, -1, -1) for values in (state, action))
        means, deviations = self._stepper.step(*rows)
        mean = means.mean(dim=0)
        centre = mean.view(size, particles, count).transpose(0, 1)
        if self._draws.propagation == "mean":
            return centre
        spread = (deviations.square() + (means - mean).square()).mean(dim=0)
        variance = spread.view(size, particles, count).transpose(0, 1)
        if self._draws.propagation == "mm":
            overall = centre.mean(dim=0, keepdim=True)
            variance = (variance + (centre - overall).square()).mean(dim=0, keepdim=True)
            centre = overall
        # The root's gradient at zero, where all members agree, would not be a number.
        return torch.addcmul(centre, variance.clamp(min=LEAST_VARIANCE).sqrt(), noise)

    def _advance_sampled(self, step: int, state: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        particles, order = len(state), self._draws.order
        if order is not None:
            state, action = state[order[step]], action[order[step]]
        mean, deviation = self._stepper.step(_by_member(state, self._members), _by_member(action, self._members))
        following = torch.addcmul(_by_particle(mean, particles), _by_particle(deviation, particles), noise)
        return following if order is None else following[order[step].argsort()]


def _by_member(values: Tensor, members: int) -> Tensor:
    """[P, size, N] -> [members, size, P / members * N]; a copy only when a member has several particles."""
    particles, size, count = values.shape
    return values.reshape(members, particles // members, size, count).transpose(1, 2).reshape(members, size, -1)


def _by_particle(values: Tensor, particles: int) -> Tensor:
    """The reverse of `_by_member`."""
    members, size, rows = values.shape
    share = particles // members
    return values.reshape(members, size, share, rows // share).transpose(1, 2).reshape(particles, size, rows // share)
