# SPDX-License-Identifier: Apache-2.0
"""First and second derivatives of a step of the dynamics, many rows at once.

Every row of a batch stands alone, so a Jacobian takes one pass backward: the rows are repeated once for each
output, and each copy goes back from its own.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], Tensor]
"""[..., B, state_size], [..., B, action_size] -> next state [..., B, state_size]."""
Jacobians = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""[B, state_size], [B, action_size] -> [..., B, state_size, state_size] and [..., B, state_size, action_size]."""


def step_jacobians(step: Step, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor] | None:
    """Jacobians [..., B, n, n] and [..., B, n, m] of a differentiable `step` at state [..., B, n], action [..., B, m].

    None when what `step` returns has no graph to go back through.
    """
    size = state.shape[-1]
    with torch.inference_mode(False), torch.enable_grad():
        joint = torch.cat([state, action], dim=-1).detach()
        copies = joint.unsqueeze(-3).repeat_interleave(size, dim=-3).requires_grad_(True)  # [..., n, B, n + m]
        rows = copies.flatten(-3, -2)
        following = step(rows[..., :size], rows[..., size:])
        if not following.requires_grad:
            return None
        own = torch.diagonal(following.unflatten(-2, (size, -1)), dim1=-3, dim2=-1)
        (slope,) = torch.autograd.grad(own.sum(), copies)
    slope = slope.transpose(-3, -2)
    return slope[..., :size], slope[..., size:]


def step_hessians(step: Step, state: Tensor, action: Tensor) -> Tensor | None:
    """Second derivatives [..., B, n, n + m, n + m] of each next state, state before action; arguments and None as for
    `step_jacobians`.
    """
    size = state.shape[-1]
    with torch.inference_mode(False), torch.enable_grad():
        joint = torch.cat([state, action], dim=-1).detach()
        both = joint.shape[-1]
        repeats = (*[1] * (joint.dim() - 2), both, size, 1, 1)
        copies = joint[..., None, None, :, :].repeat(repeats).requires_grad_(True)  # [..., n + m, n, B, n + m]
        rows = copies.flatten(-4, -2)
        following = step(rows[..., :size], rows[..., size:])
        if not following.requires_grad:
            return None
        own = torch.diagonal(following.unflatten(-2, (both, size, -1)), dim1=-3, dim2=-1)
        # A step that is linear in everything has a slope without a graph.
        total = own.sum() + 0.0 * copies.square().sum()
        (slope,) = torch.autograd.grad(total, copies, create_graph=True)
        (curvature,) = torch.autograd.grad(torch.diagonal(slope, dim1=-4, dim2=-1).sum(), copies)
    return curvature.transpose(-4, -2)


def central_hessians(jacobians: Jacobians, state: Tensor, action: Tensor, width: float) -> Tensor:
    """Second derivatives [..., B, n, n + m, n + m] by central differences of `jacobians`, all in one call."""
    size = state.shape[-1]
    joint = torch.cat([state, action], dim=-1)
    shift = width * torch.eye(joint.shape[-1], dtype=joint.dtype).unsqueeze(1)
    moved = torch.cat([joint + shift, joint - shift]).flatten(0, 1)
    slope = torch.cat(jacobians(moved[..., :size], moved[..., size:]), dim=-1)
    slope = slope.unflatten(-3, (2, joint.shape[-1], -1))
    curvature = (slope.select(-5, 0) - slope.select(-5, 1)) / (2.0 * width)
    curvature = curvature.movedim(-4, -1)
    return 0.5 * (curvature + curvature.mT)
