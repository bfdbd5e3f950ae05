# SPDX-License-Identifier: Apache-2.0
"""Rolls policies through a model: actions that depend on the states of the particles."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_dynamics.model import DynamicsModel, KeepGoing
from mbrl_dynamics.propagation import Draws, Propagator, check_propagation
from mbrl_dynamics.rollout import check_time

BatchPolicy = Callable[[Tensor, int], Tensor]
"""Actions [N, P, action_size] (normalised) of states [N, P, state_size] (SI units) at a step index, one policy for
each of N candidates. The states may not be written to."""


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
    check_propagation(model, particles, propagation)
    draws = Draws.of(propagation, model.members, horizon, particles, len(state), generator).to(state.device)
    propagator = Propagator(model.stepper(draws.rows(model.members) * count), model.members, draws)
    kept, action_size = draws.particles, model.spec.action.size
    # Rows last, as the stepper wants them.
    states = torch.empty(horizon + 1, kept, len(state), count, device=state.device)
    actions = torch.empty(horizon, kept, action_size, count, device=state.device)
    states[0] = state.unsqueeze(1)
    for step in range(horizon):
        check_time(keep_going, step)
        answer = policy(states[step].permute(2, 0, 1), step)
        if answer.shape != (count, kept, action_size):
            expected = [count, kept, action_size]
            raise ValueError(f"policy: got actions of shape {list(answer.shape)}, expected {expected}")
        actions[step] = answer.permute(1, 2, 0)
        states[step + 1] = propagator.advance(step, states[step], actions[step])
    return ClosedLoopTrajectories(states.permute(3, 1, 0, 2), actions.permute(3, 1, 0, 2))
