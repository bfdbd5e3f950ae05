# SPDX-License-Identifier: Apache-2.0
"""Rolls action sequences through a learned model: the one hot loop of planning."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.model import DynamicsModel, KeepGoing, RolloutInterrupted, Stepper
from mbrl_dynamics.propagation import PRECISIONS, PROPAGATIONS, Draws, Propagator, check_propagation

__all__ = [
    "PRECISIONS",
    "PROPAGATIONS",
    "RolloutInterrupted",
    "Trajectories",
    "check_time",
    "differentiable_rollout",
    "rollout",
]


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
    precision: str = "float32",
) -> Trajectories:
    """Rolls actions [N, H, action_size] from state [state_size], both on the model's device.

    Propagations of Chua et al. 2018, section 5 and appendix; f_b is member b, p a particle:
    `ts1`: particles are re-assigned to members at every step, at random and balanced, s'_p ~ f_b(p)(s_p, a);
    `tsinf`: each keeps its member for the whole horizon;
    `ds` (distribution sampling): s'_p ~ N(E_b[s'], V_b[s']), s' ~ f_b(s_p, a): the ensemble's mean and total variance;
    `mm` (moment matching): s'_p ~ N(E_pb[s'], V_pb[s']), a diagonal Gaussian fitted across particles and members, from
    which all particles are drawn anew at every step;
    `mean` (the paper's E): s' = E_b[E f_b(s, a)], one particle without noise, whatever `particles` says.
    Moments are computed exactly from the members' predictions, not from samples of them.

    Assignments and noise are the same for all N sequences (common random numbers): each sequence's trajectories have
    the distribution of the paper, and differences between sequences are differences of the sequences.

    `precision` is that of products of hidden layers, for kinds that know several: `bfloat16`, or `auto` for it where
    the processor is faster at it; sums, states and what goes into the first layer are float32 always. Raises ValueError
    on an unknown propagation or precision or when `particles` is not a multiple of `model.members`, and
    RolloutInterrupted once `keep_going`, which is asked again and again, says no.
    """
    check_propagation(model, particles, propagation)
    if precision not in PRECISIONS:
        raise ValueError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    states_at_once = model.trajectories(state, actions, particles, propagation, generator, keep_going, precision)
    if states_at_once is not None:
        return Trajectories(states_at_once)
    count, horizon, _ = actions.shape
    draws = Draws.of(propagation, model.members, horizon, particles, len(state), generator).to(state.device)
    propagator = Propagator(model.stepper(draws.rows(model.members) * count), model.members, draws)
    states = torch.empty(horizon + 1, draws.particles, len(state), count, device=state.device)
    states[0] = state.unsqueeze(1)
    by_step = actions.permute(1, 2, 0)
    for step in range(horizon):
        check_time(keep_going, step)
        states[step + 1] = propagator.advance(step, states[step], by_step[step].expand(draws.particles, -1, -1))
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
    """What `rollout` computes in float32, from the same random numbers, by operations that gradients go back through.

    The noise is an input (reparameterisation), so the gradient with respect to the actions is that of these very
    trajectories. Arguments and errors are those of `rollout`; `keep_going` is asked again before every step on the way
    back through them.
    """
    check_propagation(model, particles, propagation)
    count, horizon, _ = actions.shape
    draws = Draws.of(propagation, model.members, horizon, particles, len(state), generator).to(state.device)
    propagator = Propagator(Stepper(model), model.members, draws)
    states = [state.unsqueeze(1).expand(draws.particles, len(state), count)]
    by_step = actions.permute(1, 2, 0)
    for step in range(horizon):
        check_time(keep_going, step, states[-1])
        states.append(propagator.advance(step, states[-1], by_step[step].expand(draws.particles, -1, -1)))
    return Trajectories(torch.stack(states).permute(3, 1, 0, 2))


def check_time(keep_going: KeepGoing | None, step: int, state: Tensor | None = None) -> None:
    """Asks before a step, and again when gradients come back to its `state`; raises RolloutInterrupted on a no."""
    if keep_going is None:
        return
    if not keep_going():
        raise RolloutInterrupted(f"stopped at step {step}")
    if state is not None and state.requires_grad:
        state.register_hook(lambda gradient: check_time(keep_going, step))
