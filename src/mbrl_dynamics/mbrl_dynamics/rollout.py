# SPDX-License-Identifier: Apache-2.0
"""Rolls action sequences through a learned model: the one hot loop of planning."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.model import DynamicsModel, KeepGoing

PROPAGATIONS = ("ts1", "tsinf", "mean")


class RolloutInterrupted(RuntimeError):
    """A rollout was told to stop before its end."""


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
    keep_going: KeepGoing | None = None,
) -> Trajectories:
    """Rolls actions [N, H, action_size] from state [state_size].

    Chua et al. 2018, section 5: with `ts1` particles are re-assigned to members at every step, at random and balanced;
    with `tsinf` each keeps its member for the whole horizon. `mean` follows the mean of the members' means with one
    particle, whatever `particles` says. Assignments and noise are the same for all N sequences (common random
    numbers): each sequence's trajectories have the distribution of the paper, and differences between sequences are
    differences of the sequences. Raises ValueError on an unknown propagation or when `particles` is not a
    multiple of `model.members`, and RolloutInterrupted once `keep_going`, asked before every step, says no.
    """
    _check(model, particles, propagation)
    states_at_once = model.trajectories(state, actions, particles, propagation, generator)
    if states_at_once is not None:
        return Trajectories(states_at_once)
    if propagation == "mean":
        return _rollout_mean(model, state, actions, keep_going)
    members, (count, horizon, action_size) = model.members, actions.shape
    share = particles // members
    size = state.shape[-1]
    states = torch.empty(horizon + 1, particles, size, count)
    states[0] = state.unsqueeze(1)
    noise = torch.randn(horizon, particles, size, 1, generator=generator)
    by_step = actions.permute(1, 2, 0).repeat(1, 1, share)  # [H, action_size, share * N]
    stepper = model.stepper(share * count)
    reassign = propagation == "ts1" and members > 1
    if reassign:
        order = torch.rand(horizon, particles, generator=generator).argsort(dim=1)
    for step in range(horizon):
        _check_time(keep_going, step)
        current, following = states[step], states[step + 1]
        if reassign:
            current = current[order[step]]
        action = by_step[step].expand(members, action_size, share * count)
        mean, deviation = stepper.step(_by_member(current, members), action)
        mean, deviation = _by_particle(mean, particles), _by_particle(deviation, particles)
        if reassign:
            following[order[step]] = torch.addcmul(mean, deviation, noise[step])
        else:
            torch.addcmul(mean, deviation, noise[step], out=following)
    return Trajectories(states.permute(3, 1, 0, 2))


def differentiable_rollout(
    model: DynamicsModel,
    state: Tensor,
    actions: Tensor,
    particles: int,
    propagation: str,
    generator: torch.Generator,
    keep_going: KeepGoing | None = None,
) -> Trajectories:
    """What `rollout` computes, from the same random numbers, by operations that gradients go back through.

    The noise is an input (reparameterisation), so the gradient with respect to the actions is that of these very
    trajectories. Arguments and errors are those of `rollout`; `keep_going` is asked again before every step on the way
    back through them.
    """
    _check(model, particles, propagation)
    members, (count, horizon, _) = model.members, actions.shape
    if propagation == "mean":
        current = state.expand(count, -1)
        states = [current[None]]
        for step in range(horizon):
            _check_time(keep_going, step, current)
            current = model.predict(current, actions[:, step]).mean.mean(dim=0)
            states.append(current[None])
        return Trajectories(torch.stack(states).permute(2, 1, 0, 3))
    size = state.shape[-1]
    noise = torch.randn(horizon, particles, size, 1, generator=generator)
    reassign = propagation == "ts1" and members > 1
    order = torch.rand(horizon, particles, generator=generator).argsort(dim=1) if reassign else None
    current = state.expand(particles, count, size)
    states = [current]
    for step in range(horizon):
        _check_time(keep_going, step, current)
        if order is not None:
            current = current[order[step]]
        rows = current.reshape(members, -1, size)
        action = actions[:, step].repeat(particles // members, 1).expand(members, -1, -1)
        prediction = model.predict(rows, action)
        mean, deviation = prediction.mean, prediction.variance.sqrt()
        following = mean.view(particles, count, size) + deviation.view(particles, count, size) * noise[step].mT
        current = following if order is None else following[order[step].argsort()]
        states.append(current)
    return Trajectories(torch.stack(states).permute(2, 1, 0, 3))


def _check(model: DynamicsModel, particles: int, propagation: str) -> None:
    if propagation not in PROPAGATIONS:
        raise ValueError(f"propagation: got {propagation!r}, expected one of {', '.join(PROPAGATIONS)}")
    if propagation != "mean" and (particles < 1 or particles % model.members):
        raise ValueError(f"particles: got {particles}, expected a multiple of the model's {model.members} members")


def _by_member(values: Tensor, members: int) -> Tensor:
    """[P, size, N] -> [members, size, P / members * N]; a copy only when a member has several particles."""
    particles, size, count = values.shape
    return values.view(members, particles // members, size, count).transpose(1, 2).reshape(members, size, -1)


def _by_particle(values: Tensor, particles: int) -> Tensor:
    """The reverse of `_by_member`."""
    members, size, rows = values.shape
    share = particles // members
    return values.reshape(members, size, share, rows // share).transpose(1, 2).reshape(particles, size, rows // share)


def _check_time(keep_going: KeepGoing | None, step: int, state: Tensor | None = None) -> None:
    """Asks before a step, and again when gradients come back to its `state`."""
    if keep_going is None:
        return
    if not keep_going():
        raise RolloutInterrupted(f"stopped at step {step}")
    if state is not None and state.requires_grad:
        state.register_hook(lambda gradient: _check_time(keep_going, step))


def _rollout_mean(model: DynamicsModel, state: Tensor, actions: Tensor, keep_going: KeepGoing | None) -> Trajectories:
    count, horizon, _ = actions.shape
    states = torch.empty(horizon + 1, 1, state.shape[-1], count)
    states[0] = state.unsqueeze(1)
    stepper = model.stepper(count)
    by_step = actions.permute(1, 2, 0)
    for step in range(horizon):
        _check_time(keep_going, step)
        mean, _ = stepper.step(states[step].expand(model.members, -1, -1), by_step[step].expand(model.members, -1, -1))
        torch.mean(mean, dim=0, keepdim=True, out=states[step + 1])
    return Trajectories(states.permute(3, 1, 0, 2))
