# SPDX-License-Identifier: Apache-2.0
"""Rolls policies through a model: actions that depend on the states of the particles."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.model import DynamicsModel, KeepGoing, Stepper
from mbrl_dynamics.rollout import RolloutInterrupted

BatchPolicy = Callable[[Tensor, int], Tensor]
"""Actions [N, P, action_size] (normalised) in states [N, P, state_size] (SI units) at a step of the rollout; each of
the N candidates may be a policy of its own. The states may not be written to."""

PROPAGATIONS = ("ts1", "tsinf", "ds", "mm", "mean")


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

    What `rollout` computes, from the same random numbers, except that each particle's action is the policy's answer to
    that particle's state: a policy that ignores the state gives the numbers of `rollout`. Propagations are those of
    Chua et al. 2018, section 5 and appendix: `ts1`, `tsinf`, `ds` (each particle drawn from the Gaussian with the
    moments of its members' predictions), `mm` (from one with the moments of all particles') and `mean`, which has one
    particle whatever `particles` says. Raises ValueError on an unknown propagation, when `particles` is not a
    multiple of `model.members`, and when the policy answers with another shape; RolloutInterrupted once `keep_going`,
    asked before every step, says no.
    """
    if propagation not in PROPAGATIONS:
        raise ValueError(f"propagation: got {propagation!r}, expected one of {', '.join(PROPAGATIONS)}")
    members, size, action_size = model.members, state.shape[-1], model.spec.action.size
    one = propagation == "mean"
    if not one and (particles < 1 or particles % members):
        raise ValueError(f"particles: got {particles}, expected a multiple of the model's {members} members")
    kept = 1 if one else particles
    sampled = propagation in ("ts1", "tsinf")
    stepper = model.stepper(count * (particles // members if sampled else kept))
    # Rows last, as the stepper wants them.
    states = torch.empty(horizon + 1, kept, size, count)
    actions = torch.empty(horizon, kept, action_size, count)
    states[0] = state.unsqueeze(1)
    noise = torch.zeros(horizon, 1, size, 1) if one else torch.randn(horizon, particles, size, 1, generator=generator)
    order = None
    if propagation == "ts1" and members > 1:
        order = torch.rand(horizon, particles, generator=generator).argsort(dim=1)
    for step in range(horizon):
        if keep_going is not None and not keep_going():
            raise RolloutInterrupted(f"stopped at step {step}")
        answer = policy(states[step].permute(2, 0, 1), step)
        if answer.shape != (count, kept, action_size):
            expected = [count, kept, action_size]
            raise ValueError(f"policy: got actions of shape {list(answer.shape)}, expected {expected}")
        actions[step] = answer.permute(1, 2, 0)
        if order is not None:
            places = order[step]
            current, action = states[step, places], actions[step, places]
            states[step + 1, places] = _sampled(stepper, members, current, action, noise[step])
        elif sampled:
            states[step + 1] = _sampled(stepper, members, states[step], actions[step], noise[step])
        else:
            centre, variance = _moments(stepper, members, states[step], actions[step])
            if propagation == "mm":
                overall = centre.mean(dim=0, keepdim=True)
                variance = (variance + (centre - overall).square()).mean(dim=0, keepdim=True)
                centre = overall
            torch.addcmul(centre, variance.sqrt(), noise[step], out=states[step + 1])
    return ClosedLoopTrajectories(states.permute(3, 1, 0, 2), actions.permute(3, 1, 0, 2))


def _sampled(stepper: Stepper, members: int, state: Tensor, action: Tensor, noise: Tensor) -> Tensor:
    """Next states of particles [P, size, N], of which each member has its share."""
    mean, deviation = stepper.step(_by_member(state, members), _by_member(action, members))
    particles = len(state)
    return torch.addcmul(_by_particle(mean, particles), _by_particle(deviation, particles), noise)


def _moments(stepper: Stepper, members: int, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [P, size, N] of each particle's next state over all members, of states [P, size, N]."""
    particles, _, count = state.shape
    rows, acts = (values.transpose(0, 1).reshape(values.shape[1], -1) for values in (state, action))
    means, deviations = stepper.step(rows.expand(members, -1, -1), acts.expand(members, -1, -1))
    mean = means.mean(dim=0)
    variance = (deviations.square() + (means - mean).square()).mean(dim=0)
    return _per_particle(mean, particles, count), _per_particle(variance, particles, count)


def _per_particle(values: Tensor, particles: int, count: int) -> Tensor:
    """[size, P * N] -> [P, size, N]."""
    return values.view(-1, particles, count).transpose(0, 1)


def _by_member(values: Tensor, members: int) -> Tensor:
    """[P, size, N] -> [members, size, P / members * N]."""
    particles, size, count = values.shape
    return values.reshape(members, particles // members, size, count).transpose(1, 2).reshape(members, size, -1)


def _by_particle(values: Tensor, particles: int) -> Tensor:
    """The reverse of `_by_member`."""
    members, size, rows = values.shape
    share = particles // members
    return values.reshape(members, size, share, rows // share).transpose(1, 2).reshape(particles, size, -1)
