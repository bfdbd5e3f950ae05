# SPDX-License-Identifier: Apache-2.0
"""The supervised step of guided policy search: one policy towards many controllers, weighted by their precision."""

import torch
from torch import Tensor


def supervised_objective(
    policy_means: Tensor,
    policy_covariances: Tensor,
    target_means: Tensor,
    target_precisions: Tensor,
    weights: Tensor,
) -> Tensor:
    """Weighted mean over a batch of B states of

        KL(pi || p) = 1/2 [tr(C^-1 Sigma_pi) - log |Sigma_pi| + D' C^-1 D],   D = mu_pi - mu_p,

    less what the policy cannot change, m/2 - 1/2 log |C| (Levine et al. 2016, "End-to-end training of deep visuomotor
    policies"). policy_means, target_means [B, m]; policy_covariances [m, m] or [B, m, m], positive definite;
    target_precisions C^-1 [B, m, m]; weights nu [B] >= 0, of which only the ratios matter. Differentiable by means and
    covariances of the policy.

    Raises ValueError on shapes that do not fit, targets or weights that are not finite, weights that are negative or
    all zero, and covariances without a Cholesky factor.
    """
    _check(target_precisions, weights, policy_means.shape[-1])
    shape = (len(weights), policy_means.shape[-1])
    if policy_means.shape != shape or target_means.shape != shape:
        raise ValueError(f"means: got {[*policy_means.shape]} and targets {[*target_means.shape]}, expected {[*shape]}")
    if policy_covariances.shape not in ((shape[1], shape[1]), target_precisions.shape):
        raise ValueError(f"policy covariances: got shape {[*policy_covariances.shape]}, expected [m, m] or [B, m, m]")
    if not target_means.isfinite().all():
        raise ValueError("target means: have non-finite numbers")
    factor, failed = torch.linalg.cholesky_ex(policy_covariances)
    if bool(failed.any()):
        raise ValueError("policy covariances: not positive definite")
    log_determinant = 2.0 * torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(dim=-1)
    trace = (target_precisions * policy_covariances.transpose(-1, -2)).sum(dim=(-2, -1))
    difference = policy_means - target_means
    distance = torch.einsum("bi,bij,bj->b", difference, target_precisions, difference)
    return (weights * 0.5 * (trace - log_determinant + distance)).sum() / weights.sum()


def best_covariance(target_precisions: Tensor, weights: Tensor) -> Tensor:
    """The constant covariance [m, m] that minimises `supervised_objective` whatever the means are,
    (sum nu C^-1 / sum nu)^-1 (Levine et al. 2016). Raises ValueError as that does, and where the weighted
    mean of the precisions is singular.
    """
    _check(target_precisions, weights, target_precisions.shape[-1])
    mean = (weights[:, None, None] * target_precisions).sum(dim=0) / weights.sum()
    factor, failed = torch.linalg.cholesky_ex(mean)
    if bool(failed):
        raise ValueError("target precisions: their mean is not positive definite")
    return torch.cholesky_inverse(factor)


def _check(precisions: Tensor, weights: Tensor, size: int) -> None:
    if weights.dim() != 1 or precisions.shape != (len(weights), size, size):
        raise ValueError(
            f"got target precisions {[*precisions.shape]} and weights {[*weights.shape]},"
            f" expected [B, {size}, {size}] and [B]"
        )
    if not (precisions.isfinite().all() and weights.isfinite().all()):
        raise ValueError("target precisions and weights: have non-finite numbers")
    if bool((weights < 0.0).any()) or not bool((weights > 0.0).any()):
        raise ValueError("weights: expected none below 0 and one above")
