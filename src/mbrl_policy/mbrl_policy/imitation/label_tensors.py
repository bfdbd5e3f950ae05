# SPDX-License-Identifier: Apache-2.0
"""Labels as tensors, and batches of them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mbrl_core.policies import ChunkPolicy, Policy
from mbrl_policy.imitation.labels import Labels


@dataclass(frozen=True)
class Batch:
    """States [b, n], targets [b, m], and what not every policy or teacher asks for, None where it does not: steps [b]
    where the policy depends on time, precisions [b, m, m] where they are not the identity, the rows after the first of
    chunks [b, k - 1, m], and which of them are known [b, k - 1].
    """

    state: Tensor
    target: Tensor
    step: Tensor | None
    precision: Tensor | None
    later: Tensor | None
    known: Tensor | None


class LabelTensors:
    """Labels for a policy; `noise` as `FitConfig.label_noise`. Raises ValueError on chunks where no label follows
    another.
    """

    def __init__(self, labels: Labels, policy: Policy, noise: float) -> None:
        spec = policy.spec
        self.states, self._gains = (torch.from_numpy(each).float() for each in (labels.states, labels.gains))
        self._lower, self._upper = (torch.tensor(values) for values in (spec.action.lower, spec.action.upper))
        self.half_range = 0.5 * (self._upper - self._lower)
        later = known = None
        if isinstance(policy, ChunkPolicy):
            later, known = _chunks(labels, policy.config.chunk)
        self._all = Batch(
            self.states, torch.from_numpy(labels.actions).float(),
            None if policy.horizon is None else torch.from_numpy(labels.steps.astype(np.int64)),
            _precisions(labels, self.half_range), later, known,
        )  # fmt: skip
        self._noise = noise * _spread(self.states, torch.from_numpy(spec.state.angular)) if noise > 0.0 else None

    def all(self) -> Batch:
        """All of them."""
        return self._all

    def batch(self, size: int, random: torch.Generator) -> Batch:
        """Drawn anew; all of them where there are no more than `size`."""
        if size >= len(self.states):
            batch, gains = self._all, self._gains
        else:
            index = torch.randint(len(self.states), (size,), generator=random)
            batch = Batch(*(None if values is None else values[index] for values in vars(self._all).values()))
            gains = self._gains[index] if self._noise is not None else self._gains
        if self._noise is None:
            return batch
        change = torch.randn(batch.state.shape, generator=random) * self._noise
        moved = batch.target + (gains @ change.unsqueeze(-1)).squeeze(-1)
        target = torch.minimum(torch.maximum(moved, self._lower), self._upper)
        return replace(batch, state=batch.state + change, target=target)


def _chunks(labels: Labels, length: int) -> tuple[Tensor | None, Tensor | None]:
    actions, known = labels.chunks(length)
    if length > 1 and not known[:, 1].any():
        raise ValueError(
            "labels: none follows another, expected a teacher who moved the robot for at least two steps to fit chunks"
        )
    return torch.from_numpy(actions[:, 1:]).float(), torch.from_numpy(known[:, 1:])


def _precisions(labels: Labels, half_range: Tensor) -> Tensor | None:
    """[N, m, m] of actions in half ranges, over the mean of their diagonals."""
    scaled = torch.from_numpy(labels.precisions).float() * half_range[:, None] * half_range
    scaled = scaled / scaled.diagonal(dim1=-2, dim2=-1).mean()
    return None if bool((scaled == torch.eye(len(half_range))).all()) else scaled


def _spread(states: Tensor, angular: Tensor) -> Tensor:
    """Standard deviations [n]."""
    deviation = states - states.mean(dim=0)
    # The mean direction of an angle: one about pi is not spread over both ends of its range.
    turned = states - torch.atan2(states.sin().mean(dim=0), states.cos().mean(dim=0))
    wrapped = torch.remainder(turned + torch.pi, 2.0 * torch.pi) - torch.pi
    return torch.where(angular, wrapped, deviation).square().mean(dim=0).sqrt()
