# SPDX-License-Identifier: Apache-2.0
"""Rolls policies through a model: actions that depend on the states of the particles."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.model import DynamicsModel, KeepGoing
from mbrl_dynamics.rollout import RolloutInterrupted

BatchPolicy = Callable[[Tensor, int], Tensor]
"""Actions [N, P, action_size] (normalised) of states [N, P, state_size] (SI units) at a step index, one policy for
each of N candidates. The states may not be written to."""

PROPAGATIONS = ("ts1", "tsinf", "mean")


@dataclass(frozen=True)
class ClosedLoopTrajectories:
    """states [N, P, H + 1, state_size], angles not wrapped, and the actions [N, P, H, action_size] applied in them."""

    states: Tensor
    actions: Tensor


@torch.no_grad()
def closed_loop_rollout(
    model: DynamicsModel,
    state: Tensor,
    policy: BatchPolicy,
    count: int,
    horizon: int,
    particles: int,
    propagation: str,
    generator: torch.Generator,
    keep_going: KeepGoing | None = None,
) -> ClosedLoopTrajectories:
    """Rolls `count` policies for `horizon` steps from state [state_size].

    What `rollout` computes (Chua et al. 2018, section 5), from the same random numbers, except that each particle's
    action is the policy's answer to that particle's state: a policy that ignores the state gives the numbers of
    `rollout`. With `mean` there is one particle whatever `particles` says. Raises ValueError on an unknown
    propagation, when `particles` is not a multiple of `model.members`, and when the policy answers with another shape;
    RolloutInterrupted once `keep_going`, asked before every step, says no.
    """
    if propagation not in PROPAGATIONS:
        raise ValueError(
            f"propagation: got {propagation!r}, expected one of {', '.join(PROPAGATIONS)} where a policy is rolled out"
        )
    members, size, action_size = model.members, state.shape[-1], model.spec.action.size
    one = propagation == "mean"
    if not one and (particles < 1 or particles % members):
        raise ValueError(f"particles: got {particles}, expected a multiple of the model's {members} members")
    kept = 1 if one else particles
    share = 1 if one else particles // members
    stepper = model.stepper(share * count)
    # Rows last, as the stepper wants them.
    states = torch.empty(horizon + 1, kept, size, count)
    actions = torch.empty(horizon, kept, action_size, count)
    states[0] = state.unsqueeze(1)
    if not one:
        noise = torch.randn(horizon, particles, size, 1, generator=generator)
    order = None
    if propagation == "ts1" and members > 1:
        order = torch.rand(horizon, particles, generator=generator).argsort(dim=1)
    for step in range(horizon):
        if keep_going is not None and not keep_going():
            raise RolloutInterrupted(f"rollout interrupted after {step} of {horizon} steps")
        answer = policy(states[step].permute(2, 0, 1), step)
        if answer.shape != (count, kept, action_size):
            expected = [count, kept, action_size]
            raise ValueError(f"policy: got actions of shape {list(answer.shape)}, expected {expected}")
        actions[step] = answer.permute(1, 2, 0)
        current, action = states[step], actions[step]
        if order is not None:
            current, action = current[order[step]], action[order[step]]
        if one:
            mean, _ = stepper.step(current.expand(members, -1, -1), action.expand(members, -1, -1))
            torch.mean(mean, dim=0, keepdim=True, out=states[step + 1])
            continue
        mean, deviation = stepper.step(_by_member(current, members), _by_member(action, members))
        following = torch.addcmul(_by_particle(mean, particles), _by_particle(deviation, particles), noise[step])
        if order is None:
            states[step + 1] = following
        else:
            states[step + 1, order[step]] = following
    return ClosedLoopTrajectories(states.permute(3, 1, 0, 2), actions.permute(3, 1, 0, 2))


def _by_member(values: Tensor, members: int) -> Tensor:
    """[P, size, N] -> [members, size, P / members * N]."""
    particles, size, count = values.shape
    return values.view(members, particles // members, size, count).transpose(1, 2).reshape(members, size, -1)


def _by_particle(values: Tensor, particles: int) -> Tensor:
    """The reverse of `_by_member`."""
    members, size, rows = values.shape
    share = particles // members
    return values.reshape(members, size, share, rows // share).transpose(1, 2).reshape(particles, size, -1)
