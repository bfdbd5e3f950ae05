# SPDX-License-Identifier: Apache-2.0
"""Importance weights: how few samples carry them, and weights that are flattened until enough do."""

import torch
from torch import Tensor

BISECTIONS = 30


def effective_share(log_weights: Tensor) -> Tensor:
    """(sum w)^2 / (J sum w^2) [B] of log weights [B, J]: 1 where all are equal, 1 / J where one has everything."""
    share = torch.softmax(log_weights, dim=1)
    return 1.0 / (share.square().sum(dim=1) * log_weights.shape[1])


def flattened_weights(log_weights: Tensor, least: float) -> Tensor:
    """Normalised w^alpha [B, J] with the largest alpha in [0, 1] whose effective share is at least `least`.

    A weight of zero, -inf, stays zero. Bias for variance: alpha is 1 wherever samples are good enough.
    """
    low, high = torch.zeros(len(log_weights), 1).double(), torch.ones(len(log_weights), 1).double()
    finite = log_weights.isfinite()
    safe = torch.where(finite, log_weights, 0.0)

    def at(alpha: Tensor) -> Tensor:
        return torch.where(finite, alpha * safe, -torch.inf)

    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        enough = (effective_share(at(middle)) >= least)[:, None]
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    alpha = torch.where((effective_share(log_weights) >= least)[:, None], 1.0, low)
    return torch.softmax(at(alpha), dim=1)
