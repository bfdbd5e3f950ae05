# SPDX-License-Identifier: Apache-2.0
"""The supervised step: a policy towards a teacher's actions."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mbrl_core.config import parameter
from mbrl_core.policies import NetworkPolicy, Policy
from mbrl_policy.imitation.label_tensors import LabelTensors
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.imitation.losses import Losses
from mbrl_policy.training import TrainerConfig, TrainingInterrupted
from mbrl_policy.training.adam import Adam

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
    where it has parameters for it; hidden layers serve the mean alone. A batch as large as the data is all of it.

    A mixture is fitted by maximum likelihood of u + K e alone (Bishop 1994), P has no part in it; what is
    returned is still the loss above, of its heaviest component. Chunks are fitted in all rows that the labels know
    (`Labels.chunks`), rows after the first without P and e; returned is the loss of all.

    With `fresh` a policy that normalises its observations takes their statistics from the labels first. Raises
    ValueError on fewer than two labels, and on chunks where no label follows another; TrainingInterrupted.
    """
    if len(labels) < 2:
        raise ValueError(f"labels: got {len(labels)}, expected at least 2 to fit a policy")
    data = LabelTensors(labels, policy, config.label_noise)
    if fresh and isinstance(policy, NetworkPolicy):
        policy.normalise(data.states)
    parameters = list(policy.parameters())
    optimiser, random = Adam(parameters), torch.Generator().manual_seed(seed)
    total, steps = 0.0, config.gradient_steps
    counted = max(steps // 10, 1)
    for step in range(steps):
        if step % ASK_EVERY == 0 and not keep_going():
            raise TrainingInterrupted
        losses = Losses(policy, data.batch(config.batch_size, random), data.half_range)
        rate = 0.5 * config.learning_rate * (1.0 + math.cos(math.pi * step / steps))
        optimiser.step(losses.gradients(parameters), rate)
        if step >= steps - counted:
            total += losses.told()
    return total / counted


def policy_loss(policy: Policy, labels: Labels) -> float:
    """What `fit_policy` returns, of a policy as it is, over all labels and without noise on the states."""
    data = LabelTensors(labels, policy, 0.0)
    with torch.no_grad():
        return Losses(policy, data.all(), data.half_range).told()
