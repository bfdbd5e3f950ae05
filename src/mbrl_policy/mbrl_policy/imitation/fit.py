# SPDX-License-Identifier: Apache-2.0
"""The supervised step: a policy towards a teacher's actions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import parameter
from mbrl_core.policies import NetworkPolicy, Policy
from mbrl_core.specs import RobotSpec
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
    where it has parameters for it. With `fresh` a policy that normalises its observations takes their statistics from
    the labels first. Raises ValueError on fewer than two labels, TrainingInterrupted.
    """
    if len(labels) < 2:
        raise ValueError(f"labels: got {len(labels)}, expected at least 2 to fit a policy")
    data = _Data(labels, policy.spec, config.label_noise)
    if fresh and isinstance(policy, NetworkPolicy):
        policy.normalise(data.states)
    optimiser = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.gradient_steps)
    random = torch.Generator().manual_seed(seed)
    total, counted = 0.0, max(config.gradient_steps // 10, 1)
    for step in range(config.gradient_steps):
        if step % ASK_EVERY == 0 and not keep_going():
            raise TrainingInterrupted
        state, time, target, precision = data.batch(config.batch_size, random)
        mean, scale_tril = policy.gaussian(state, time)
        action = policy.squashed(mean) if policy.squash else mean
        error = (action - target) / data.half_range
        loss = torch.einsum("bi,bij,bj->b", error, precision, error).mean() / error.shape[-1]
        optimiser.zero_grad()
        (loss + _residual_surprise(policy, error, mean, scale_tril, data.half_range)).backward()
        optimiser.step()
        schedule.step()
        if step >= config.gradient_steps - counted:
            total += float(loss.detach())
    return total / counted


class _Data:
    """Labels as tensors, and batches of them."""

    def __init__(self, labels: Labels, spec: RobotSpec, noise: float) -> None:
        self.states, self.actions, self.gains, self._precisions = (
            torch.from_numpy(values).float()
            for values in (labels.states, labels.actions, labels.gains, labels.precisions)
        )
        self._steps = torch.from_numpy(labels.steps.astype(np.int64))
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

    def batch(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """States [b, n], steps [b], targets [b, m] and precisions [b, m, m], drawn anew."""
        index = torch.randint(len(self.states), (size,), generator=random)
        state, target = self.states[index], self.actions[index]
        if bool((self._noise > 0.0).any()):
            change = torch.randn(state.shape, generator=random) * self._noise
            moved = target + (self.gains[index] @ change.unsqueeze(-1)).squeeze(-1)
            state, target = state + change, torch.minimum(torch.maximum(moved, self._lower), self._upper)
        return state, self._steps[index], target, self._precisions[index]


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
