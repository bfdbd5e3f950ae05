# SPDX-License-Identifier: Apache-2.0
"""Rolls action sequences through a learned model: the one hot loop of planning."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.model import DynamicsModel, KeepGoing, RolloutInterrupted, Stepper
from mbrl_dynamics.propagation import PRECISIONS, PROPAGATIONS, Draws

__all__ = ["PRECISIONS", "PROPAGATIONS", "RolloutInterrupted", "Trajectories", "differentiable_rollout", "rollout"]

LEAST_VARIANCE = 1e-30


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
    the processor has the units; sums, states and what goes into the first layer are float32 always. Raises ValueError
    on an unknown propagation or precision or when `particles` is not a multiple of `model.members`, and
    RolloutInterrupted once `keep_going`, which is asked again and again, says no.
    """
    _check(model, particles, propagation)
    if precision not in PRECISIONS:
        raise ValueError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    states_at_once = model.trajectories(state, actions, particles, propagation, generator, keep_going, precision)
    if states_at_once is not None:
        return Trajectories(states_at_once)
    draws = _draws(model, state, actions, particles, propagation, generator)
    states = torch.empty(actions.shape[1] + 1, draws.particles, len(state), len(actions), device=state.device)
    steps = _Steps(model, None, actions, propagation, draws)
    states[0] = state.unsqueeze(1)
    for step in range(actions.shape[1]):
        _check_time(keep_going, step)
        states[step + 1] = steps.advance(step, states[step])
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
    _check(model, particles, propagation)
    draws = _draws(model, state, actions, particles, propagation, generator)
    steps = _Steps(model, Stepper(model), actions, propagation, draws)
    states = [state.unsqueeze(1).expand(draws.particles, len(state), len(actions))]
    for step in range(actions.shape[1]):
        _check_time(keep_going, step, states[-1])
        states.append(steps.advance(step, states[-1]))
    return Trajectories(torch.stack(states).permute(3, 1, 0, 2))


def _check(model: DynamicsModel, particles: int, propagation: str) -> None:
    if propagation not in PROPAGATIONS:
        raise ValueError(f"propagation: got {propagation!r}, expected one of {', '.join(PROPAGATIONS)}")
    if propagation != "mean" and (particles < 1 or particles % model.members):
        raise ValueError(f"particles: got {particles}, expected a multiple of the model's {model.members} members")


def _draws(
    model: DynamicsModel, state: Tensor, actions: Tensor, particles: int, propagation: str, generator: torch.Generator
) -> Draws:
    draws = Draws.of(propagation, model.members, actions.shape[1], particles, len(state), generator)
    return draws.to(state.device)


def _check_time(keep_going: KeepGoing | None, step: int, state: Tensor | None = None) -> None:
    """Asks before a step, and again when gradients come back to its `state`."""
    if keep_going is None:
        return
    if not keep_going():
        raise RolloutInterrupted(f"stopped at step {step}")
    if state is not None and state.requires_grad:
        state.register_hook(lambda gradient: _check_time(keep_going, step))


class _Steps:
    """One step after another through a stepper, by operations that autograd knows."""

    def __init__(
        self, model: DynamicsModel, stepper: Stepper | None, actions: Tensor, propagation: str, draws: Draws
    ) -> None:
        self._members = model.members
        self._propagation = propagation
        self._draws = draws
        # Members see each a share of the particles, or all of them.
        copies = draws.particles // model.members if propagation in ("ts1", "tsinf") else draws.particles
        self._actions = actions.permute(1, 2, 0).repeat(1, 1, copies)  # [H, action_size, copies * N]
        self._stepper = stepper if stepper is not None else model.stepper(self._actions.shape[2])

    def advance(self, step: int, current: Tensor) -> Tensor:
        """Next states of current [P, state_size, N]."""
        noise = self._draws.noise[step].unsqueeze(2)
        action = self._actions[step].expand(self._members, -1, -1)
        if self._propagation in ("ts1", "tsinf"):
            return self._advance_sampled(step, current, action, noise)
        particles, size, count = current.shape
        rows = current.transpose(0, 1).reshape(size, -1).expand(self._members, -1, -1)
        means, deviations = self._stepper.step(rows, action)
        mean = means.mean(dim=0)
        centre = mean.view(size, particles, count).transpose(0, 1)
        if self._propagation == "mean":
            return centre
        spread = (deviations.square() + (means - mean).square()).mean(dim=0)
        variance = spread.view(size, particles, count).transpose(0, 1)
        if self._propagation == "mm":
            overall = centre.mean(dim=0, keepdim=True)
            variance = (variance + (centre - overall).square()).mean(dim=0, keepdim=True)
            centre = overall
        # The root's gradient at zero, where all members agree, would not be a number.
        return torch.addcmul(centre, variance.clamp(min=LEAST_VARIANCE).sqrt(), noise)

    def _advance_sampled(self, step: int, current: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        particles, order = len(current), self._draws.order
        if order is not None:
            current = current[order[step]]
        mean, deviation = self._stepper.step(_by_member(current, self._members), action)
        following = torch.addcmul(_by_particle(mean, particles), _by_particle(deviation, particles), noise)
        return following if order is None else following[order[step].argsort()]


def _by_member(values: Tensor, members: int) -> Tensor:
    """[P, size, N] -> [members, size, P / members * N]; a copy only when a member has several particles."""
    particles, size, count = values.shape
    return values.reshape(members, particles // members, size, count).transpose(1, 2).reshape(members, size, -1)


def _by_particle(values: Tensor, particles: int) -> Tensor:
    """The reverse of `_by_member`."""
    members, size, rows = values.shape
    share = particles // members
    return values.reshape(members, size, share, rows // share).transpose(1, 2).reshape(particles, size, rows // share)
