# SPDX-License-Identifier: Apache-2.0
"""The supervised step of guided policy search: one network towards many controllers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_core.policies import NetworkPolicy, Policy
from mbrl_core.specs import Array
from mbrl_policy.couplings import SupervisedTargets
from mbrl_policy.supervised import best_covariance, supervised_objective
from mbrl_policy.training.adam import Adam

LAST_RATE = 0.01  # of the learning rate, at the last step
LEAST_SLOPE = 0.1  # of tanh: a saturated policy has noise, too


@dataclass(frozen=True)
class Lesson:
    """States [B, n] with the actions [B, m] wanted there, their precisions [B, m, m] and weights [B]."""

    states: Array
    means: Array
    precisions: Array
    weights: Array

    @staticmethod
    def of(states: Array, targets: SupervisedTargets) -> "Lesson":
        """From states [R, H, n] and what a coupling says of them."""
        count, horizon, size = states.shape
        shape = targets.precisions.shape[1:]
        return Lesson(
            states.reshape(-1, size), targets.means.reshape(count * horizon, -1),
            np.broadcast_to(targets.precisions, (count, horizon, *shape)).reshape(-1, *shape),
            np.broadcast_to(targets.weights, (count, horizon)).reshape(-1),
        )  # fmt: skip

    def only(self, chosen: NDArray[np.bool_]) -> "Lesson":
        """The states that are `chosen` [B]."""
        return Lesson(self.states[chosen], self.means[chosen], self.precisions[chosen], self.weights[chosen])

    @staticmethod
    def together(lessons: Sequence["Lesson"]) -> "Lesson":
        """One after the other."""
        names = ("states", "means", "precisions", "weights")
        return Lesson(*(np.concatenate([getattr(lesson, name) for lesson in lessons]) for name in names))


def limited(precisions: Array, most: float) -> Array:
    """Precisions [B, m, m] scaled down where they are more than `most` times the median, by their traces.

    Where the return hardly forgives anything, a controller's noise is tiny; a network that cannot be exact there would
    give up all other steps for these.
    """
    size = np.trace(precisions, axis1=-2, axis2=-1)
    return np.asarray(precisions * np.minimum(1.0, most * np.median(size) / size)[:, None, None])


def mean_action(policy: Policy, states: Tensor) -> Tensor:
    """[..., m] the policy's action without noise and without clipping."""
    mean, _ = policy.gaussian(states)
    return policy.squashed(mean) if policy.squash else mean


def answers(policy: Policy, states: Array) -> tuple[Array, Array]:
    """Mean actions [..., m] at states [..., n], and covariances [..., m, m] of the noise, to first order."""
    with torch.no_grad():
        mean, scale = policy.gaussian(torch.from_numpy(states).float())
        if policy.squash:
            scale = _slope(policy, mean).unsqueeze(-1) * scale
            mean = policy.squashed(mean)
    return mean.double().numpy(), (scale @ scale.mT).double().numpy()


def _slope(policy: Policy, mean: Tensor) -> Tensor:
    half_range = policy.squashed(torch.full_like(mean, 20.0)) - policy.squashed(torch.zeros_like(mean))
    return half_range * (1.0 - torch.tanh(mean).square()).clamp_min(LEAST_SLOPE)


def distil(
    policy: NetworkPolicy,
    lesson: Lesson,
    seed: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    keep_going: Callable[[], None],
) -> float:
    """Adam on the supervised objective; returns its value over the lesson. `keep_going` may raise, every 20 steps.

    A noise that is the same in all states is set to its optimum, which does not depend on the means; one that depends
    on them is learned. The learning rate falls to a hundredth on a half cosine.
    """
    states, means = torch.from_numpy(lesson.states).float(), torch.from_numpy(lesson.means).float()
    precisions, weights = torch.from_numpy(lesson.precisions), torch.from_numpy(lesson.weights)
    if policy.config.covariance != "state":
        covariance = best_covariance(precisions, weights)
        if policy.squash:
            half_range = _slope(policy, torch.zeros(means.shape[-1])).double()
            covariance = covariance / (half_range[:, None] * half_range)
        policy.set_covariance(covariance)
    # In units of the mean precision, so that the learning rate means the same for every task.
    unit = float((precisions.diagonal(dim1=-2, dim2=-1).mean(dim=-1) * weights).sum() / weights.sum())
    precisions, weights = precisions.float(), weights.float()
    trained = [value for name, value in policy.named_parameters() if name not in ("log_std", "mixing")]
    optimiser = Adam(trained)
    random = torch.Generator().manual_seed(seed)
    for step in range(steps):
        if step % 20 == 0:
            keep_going()
        index = torch.randint(len(states), (batch_size,), generator=random)
        loss = _objective(policy, states[index], means[index], precisions[index], weights[index]) / unit
        share = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        optimiser.step(torch.autograd.grad(loss, trained), learning_rate * (LAST_RATE + (1.0 - LAST_RATE) * share))
    with torch.no_grad():
        return float(_objective(policy, states, means, precisions, weights))


def _objective(policy: NetworkPolicy, states: Tensor, means: Tensor, precisions: Tensor, weights: Tensor) -> Tensor:
    mean, scale = policy.gaussian(states)
    if policy.squash:
        scale = _slope(policy, mean).unsqueeze(-1) * scale
        mean = policy.squashed(mean)
    return supervised_objective(mean, scale @ scale.mT, means, precisions, weights)
