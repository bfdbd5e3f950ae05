# SPDX-License-Identifier: Apache-2.0
"""The supervised step: a policy towards a teacher's actions."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import parameter
from mbrl_core.policies import ChunkPolicy, MixturePolicy, NetworkPolicy, Policy
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.training import TrainerConfig, TrainingInterrupted

LEAST_SLOPE = 0.05  # of the squashing, in half ranges, where a residual is taken back through it
ASK_EVERY = 50  # gradient steps


@dataclass(frozen=True)
class FitConfig(TrainerConfig):
    """Parameters of the supervised step."""

    gradient_steps: int = parameter(1000, "steps of Adam an iteration", minimum=1, maximum=1_000_000)
    batch_size: int = parameter(256, "labelled states a gradient step", minimum=1, maximum=1_000_000)
    learning_rate: float = parameter(3e-3, "of Adam, at first; falls to zero as a cosine", minimum=1e-7, maximum=1.0)
    label_noise: float = parameter(
        0.0,
        "noise e on the states while the policy is fitted, answered by u + K e with the teacher's gains: its standard"
        " deviation as a share of each state variable's over the labels",
        minimum=0.0,
    )


def fit_policy(
    policy: Policy, labels: Labels, config: FitConfig, seed: int, keep_going: Callable[[], bool], fresh: bool
) -> float:
    """Fits `policy` in place to `labels`; returns the mean loss of the last tenth of the gradient steps,

        1/m E (pi(x + e) - u - K e)' P (pi(x + e) - u - K e)

    actions in half ranges, pi the action without noise before clipping, P the labels' precisions over the mean of their
    diagonals. u + K e is kept within the limits. The policy's own noise follows the residuals, by maximum likelihood,
    where it has parameters for it.

    A mixture is fitted by maximum likelihood of u + K e alone (Bishop 1994), P has no part in it; what is
    returned is still the loss above, of its heaviest component. Chunks are fitted in all rows that the labels know
    (`Labels.chunks`), rows after the first without P and e; returned is the loss of all.

    With `fresh` a policy that normalises its observations takes their statistics from the labels first. Raises
    ValueError on fewer than two labels, and on chunks where no label follows another; TrainingInterrupted.
    """
    if len(labels) < 2:
        raise ValueError(f"labels: got {len(labels)}, expected at least 2 to fit a policy")
    data = _Data(labels, policy, config.label_noise)
    if fresh and isinstance(policy, NetworkPolicy):
        policy.normalise(data.states)
    optimiser = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.gradient_steps)
    random = torch.Generator().manual_seed(seed)
    total, counted = 0.0, max(config.gradient_steps // 10, 1)
    for step in range(config.gradient_steps):
        if step % ASK_EVERY == 0 and not keep_going():
            raise TrainingInterrupted
        loss, objective = _losses(policy, data.batch(config.batch_size, random), data.half_range)
        optimiser.zero_grad()
        objective.backward()
        optimiser.step()
        schedule.step()
        if step >= config.gradient_steps - counted:
            total += float(loss.detach())
    return total / counted


def policy_loss(policy: Policy, labels: Labels) -> float:
    """What `fit_policy` returns, of a policy as it is, over all labels and without noise on the states."""
    data = _Data(labels, policy, 0.0)
    with torch.no_grad():
        return float(_losses(policy, data.all(), data.half_range)[0])


@dataclass(frozen=True)
class _Batch:
    """States [b, n], steps [b], targets [b, m], precisions [b, m, m]; the rows after the first of chunks
    [b, k - 1, m], and which of them are known [b, k - 1].
    """

    state: Tensor
    step: Tensor
    target: Tensor
    precision: Tensor
    later: Tensor
    known: Tensor


def _losses(policy: Policy, batch: _Batch, half_range: Tensor) -> tuple[Tensor, Tensor]:
    """The loss to be told, and what is minimised."""
    mean, scale_tril = policy.gaussian(batch.state, batch.step)
    action = policy.squashed(mean) if policy.squash else mean
    error = (action - batch.target) / half_range
    loss = torch.einsum("bi,bij,bj->b", error, batch.precision, error).mean() / error.shape[-1]
    if isinstance(policy, MixturePolicy):
        return loss, -policy.act(batch.state).log_prob(batch.target).mean()
    if isinstance(policy, ChunkPolicy):
        later = ((policy.chunk(batch.state)[:, 1:] - batch.later) / half_range).square().mean(dim=-1) * batch.known
        count = len(batch.state)
        loss = (count * loss + later.sum()) / (count + batch.known.sum())
    return loss, loss + _residual_surprise(policy, error, mean, scale_tril, half_range)


class _Data:
    """Labels as tensors, and batches of them."""

    def __init__(self, labels: Labels, policy: Policy, noise: float) -> None:
        spec = policy.spec
        self.states, self.actions, self.gains, self._precisions = (
            torch.from_numpy(values).float()
            for values in (labels.states, labels.actions, labels.gains, labels.precisions)
        )
        self._steps = torch.from_numpy(labels.steps.astype(np.int64))
        actions, known = labels.chunks(policy.config.chunk if isinstance(policy, ChunkPolicy) else 1)
        self._later, self._known = torch.from_numpy(actions[:, 1:]).float(), torch.from_numpy(known[:, 1:])
        if known.shape[1] > 1 and not known[:, 1].any():
            raise ValueError(
                "labels: none follows another, expected a teacher who moved the robot for at least two steps to fit"
                " chunks"
            )
        self._lower, self._upper = (torch.tensor(values) for values in (spec.action.lower, spec.action.upper))
        self.half_range = 0.5 * (self._upper - self._lower)
        scale = self.half_range[:, None] * self.half_range
        diagonal = (self._precisions * scale).diagonal(dim1=-2, dim2=-1).mean()
        self._precisions = self._precisions * scale / diagonal
        deviation = self.states - self.states.mean(dim=0)
        angular = torch.from_numpy(spec.state.angular)
        # The mean direction of an angle: one about pi is not spread over both ends of its range.
        sine, cosine = self.states.sin().mean(dim=0), self.states.cos().mean(dim=0)
        turned = self.states - torch.atan2(sine, cosine)
        wrapped = torch.remainder(turned + torch.pi, 2.0 * torch.pi) - torch.pi
        self._noise = noise * torch.where(angular, wrapped, deviation).square().mean(dim=0).sqrt()

    def batch(self, size: int, random: torch.Generator) -> _Batch:
        """Drawn anew."""
        index = torch.randint(len(self.states), (size,), generator=random)
        batch = self._rows(index)
        if not bool((self._noise > 0.0).any()):
            return batch
        change = torch.randn(batch.state.shape, generator=random) * self._noise
        moved = batch.target + (self.gains[index] @ change.unsqueeze(-1)).squeeze(-1)
        target = torch.minimum(torch.maximum(moved, self._lower), self._upper)
        return replace(batch, state=batch.state + change, target=target)

    def all(self) -> _Batch:
        """All of them."""
        return self._rows(torch.arange(len(self.states)))

    def _rows(self, index: Tensor) -> _Batch:
        return _Batch(
            self.states[index], self._steps[index], self.actions[index], self._precisions[index], self._later[index],
            self._known[index],
        )  # fmt: skip


def _residual_surprise(policy: Policy, error: Tensor, mean: Tensor, scale_tril: Tensor, half_range: Tensor) -> Tensor:
    """Negative log likelihood, less constants, of errors [b, m] (half ranges) under the policy's noise alone."""
    if not scale_tril.requires_grad:
        return torch.zeros(())
    residual = error.detach()
    if policy.squash:
        residual = residual / (1.0 - torch.tanh(mean.detach()).square()).clamp_min(LEAST_SLOPE)
    else:
        residual = residual * half_range
    scaled = torch.linalg.solve_triangular(scale_tril, residual.unsqueeze(-1), upper=False).squeeze(-1)
    return (0.5 * scaled.square().sum(dim=-1) + scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)).mean()
