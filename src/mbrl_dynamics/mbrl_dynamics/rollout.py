# SPDX-License-Identifier: Apache-2.0
"""Rolls action sequences through a learned model: the one hot loop of planning."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.model import DynamicsModel

PROPAGATIONS = ("ts1", "tsinf", "mean")


@dataclass(frozen=True)
class Trajectories:
    """states [N, P, H + 1, state_size]: P particles of each of N action sequences, angles not wrapped."""

    states: Tensor


@torch.no_grad()
def rollout(
    model: DynamicsModel,
    state: Tensor,
    actions: Tensor,
    particles: int,
    propagation: str,
    generator: torch.Generator,
) -> Trajectories:
    """Rolls actions [N, H, action_size] from state [state_size].

    Chua et al. 2018, section 5: with `ts1` particles are re-assigned to members at every step, at random and balanced;
    with `tsinf` each keeps its member for the whole horizon. `mean` follows the mean of the members' means with one
    particle, whatever `particles` says. Assignments and noise are the same for all N sequences (common random
    numbers): each sequence's trajectories have the distribution of the paper, and differences between sequences are
    differences of the sequences. Raises ValueError on an unknown propagation or when `particles` is not a
    multiple of `model.members`.
    """
    if propagation not in PROPAGATIONS:
        raise ValueError(f"propagation: got {propagation!r}, expected one of {', '.join(PROPAGATIONS)}")
    if propagation == "mean":
        return _rollout_mean(model, state, actions)
    members, (count, horizon, _) = model.members, actions.shape
    if particles < 1 or particles % members:
        raise ValueError(f"particles: got {particles}, expected a multiple of the model's {members} members")
    rows = particles // members * count
    size = state.shape[-1]
    states = torch.empty(horizon + 1, particles, count, size)
    states[0] = state
    noise = torch.randn(horizon, particles, 1, size, generator=generator)
    by_step = actions.transpose(0, 1).unsqueeze(1)  # [H, 1, N, action_size]
    stepper = model.stepper(rows)
    reassign = propagation == "ts1" and members > 1
    if reassign:
        order = torch.rand(horizon, particles, generator=generator).argsort(dim=1)
        gathered = torch.empty(particles, count, size)
    for step in range(horizon):
        current = states[step]
        if reassign:
            current = torch.index_select(current, 0, order[step], out=gathered)
        action = by_step[step].expand(particles, count, -1).reshape(members, rows, -1)
        mean, deviation = stepper.step(current.view(members, rows, size), action)
        mean, deviation = mean.view(particles, count, size), deviation.view(particles, count, size)
        if reassign:
            states[step + 1].index_copy_(0, order[step], torch.addcmul(mean, deviation, noise[step], out=gathered))
        else:
            torch.addcmul(mean, deviation, noise[step], out=states[step + 1])
    return Trajectories(states.permute(2, 1, 0, 3))


def _rollout_mean(model: DynamicsModel, state: Tensor, actions: Tensor) -> Trajectories:
    count, horizon, _ = actions.shape
    states = torch.empty(horizon + 1, 1, count, state.shape[-1])
    states[0] = state
    stepper = model.stepper(count)
    by_step = actions.transpose(0, 1)
    for step in range(horizon):
        mean, _ = stepper.step(
            states[step].expand(model.members, -1, -1), by_step[step].expand(model.members, -1, -1)
        )
        torch.mean(mean, dim=0, keepdim=True, out=states[step + 1])
    return Trajectories(states.permute(2, 1, 0, 3))
