# SPDX-License-Identifier: Apache-2.0
"""Imagined trajectories of a policy from many states, that gradients go back through: model, noise and policy."""

import torch
from torch import Tensor

from mbrl_dynamics.closed_loop import BatchPolicy, ClosedLoopTrajectories
from mbrl_dynamics.model import DynamicsModel, KeepGoing, Stepper
from mbrl_dynamics.propagation import Draws, Propagator, check_propagation
from mbrl_dynamics.rollout import check_time


class GradientLimit:
    """Scales the gradient of each state down to a norm of at most `multiple` times the median of its time step.

    Norms are those of derivatives by states in units of `scale` [state_size].

    Backwards through many steps of chaotic or unstable dynamics gradients grow exponentially (Parmas et al. 2018,
    "PIPPS: Flexible Model-Based Policy Search Robust to the Curse of Chaos"): without a limit, the few trajectories
    that pass a saddle, or fly off, drown all others. A gradient that is not finite becomes zero. `seen` gradients
    have come back so far, of which `cut` were too large.
    """

    def __init__(self, scale: Tensor, multiple: float) -> None:
        self._scale = scale.unsqueeze(1)
        self._multiple = multiple
        self.seen = 0
        self.cut = 0

    def __call__(self, gradient: Tensor) -> Tensor:
        """gradient [P, state_size, N], with respect to states in SI units."""
        norm = torch.linalg.vector_norm(gradient * self._scale, dim=1, keepdim=True)
        finite = norm.isfinite()
        if not bool(finite.any()):
            return torch.zeros_like(gradient)
        largest = self._multiple * norm[finite].median()
        excess = (~finite) | (norm > largest)
        self.seen += norm.numel()
        self.cut += int(excess.sum())
        return torch.where(finite, gradient * torch.where(excess, largest / norm, 1.0), 0.0)


def imagine(
    model: DynamicsModel,
    starts: Tensor,
    policy: BatchPolicy,
    horizon: int,
    particles: int,
    propagation: str,
    generator: torch.Generator,
    keep_going: KeepGoing | None = None,
    limit: "GradientLimit | None" = None,
) -> ClosedLoopTrajectories:
    """Rolls one policy for `horizon` steps from each of `starts` [N, state_size], with `particles` each.

    Propagations are those of `rollout` (Chua et al. 2018, section 5), through `DynamicsModel.predict` and operations
    that autograd knows: the noise is an input (reparameterisation), so gradients of what the states are worth go back
    to the parameters of the policy along these very trajectories. Noise and members are the same for all starts. With
    `mean` there is one particle whatever `particles` says.

    `policy` maps states [N, P, state_size] and a step index to actions [N, P, action_size]; what it makes of them may
    depend on anything that requires a gradient. `limit` cuts gradients of single states on their way back.

    Raises ValueError on starts or actions of another shape, on an unknown propagation, and when `particles` is not a
    multiple of `model.members`; RolloutInterrupted once `keep_going`, asked before every step there and back, says no.
    """
    size = model.spec.state.size
    if starts.dim() != 2 or starts.shape[1] != size:
        raise ValueError(f"starts: got shape {list(starts.shape)}, expected [N, {size}]")
    check_propagation(model, particles, propagation)
    draws = Draws.of(propagation, model.members, horizon, particles, size, generator).to(starts.device)
    propagator = Propagator(Stepper(model), model.members, draws)
    expected = (len(starts), draws.particles, model.spec.action.size)
    states = [starts.T.expand(draws.particles, -1, -1)]
    actions = []
    for step in range(horizon):
        check_time(keep_going, step, states[-1])
        if limit is not None and states[-1].requires_grad:
            states[-1].register_hook(limit)
        answer = policy(states[-1].permute(2, 0, 1), step)
        if answer.shape != expected:
            raise ValueError(f"policy: got actions of shape {list(answer.shape)}, expected {list(expected)}")
        actions.append(answer)
        states.append(propagator.advance(step, states[-1], answer.permute(1, 2, 0)))
    return ClosedLoopTrajectories(torch.stack(states).permute(3, 1, 0, 2), torch.stack(actions, dim=2))
