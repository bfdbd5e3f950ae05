# SPDX-License-Identifier: Apache-2.0
"""Stochastic value gradients: noises inferred from real transitions, and the gradients that follow from them.

Heess et al. 2015, "Learning Continuous Control Policies by Stochastic Value Gradients" (arXiv:1510.09142), sections 3
and 4. Policy a = pi(s, eta; theta) and dynamics s' = f(s, a, xi) are functions of noises. Where a transition was
observed, eta and xi are what explains it: derivatives are taken at real states, and no model error adds up over time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.policies.distribution import SQUASH_MARGIN
from mbrl_core.policies.network import NetworkPolicy
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel


@dataclass(frozen=True)
class StepDerivatives:
    """Derivatives of T observed steps with their noises held: of the next state by_state [T, n, n] (f_s) and by_action
    [T, n, m] (f_a), of the reward reward_by_state [T, n] (r_s) and reward_by_action [T, m] (r_a).

    The reward of a step depends on the state that it leads to: what comes through that is part of r_s and r_a.
    """

    by_state: Tensor
    by_action: Tensor
    reward_by_state: Tensor
    reward_by_action: Tensor


def inferred_dynamics_noise(
    model: DynamicsModel, state: Tensor, action: Tensor, next_state: Tensor
) -> tuple[Tensor, Tensor]:
    """The noise xi [members, T, n] with which each member makes the observed next state [T, n] of state [T, n] under
    action [T, m], xi = (s' - mean(s, a)) / std(s, a); and that next state [members, T, n], its angles going on from
    those of the prediction. A member without any variance has no noise: xi is zero, and its own mean comes back.
    """
    with torch.no_grad():
        prediction = model.predict(state, action)
        angular = torch.from_numpy(model.spec.state.angular)
        difference = next_state - prediction.mean
        wrapped = torch.remainder(difference + torch.pi, 2.0 * torch.pi) - torch.pi
        difference = torch.where(angular, wrapped, difference)
        deviation = prediction.variance.sqrt()
        noise = torch.where(deviation > 0.0, difference / deviation.clamp_min(1e-30), 0.0)
    return noise, prediction.mean + noise * deviation


def inferred_action_noise(policy: NetworkPolicy, state: Tensor, wanted: Tensor) -> Tensor:
    """The noise eta [..., m] with which the policy takes the action `wanted` [..., m] (before limits) in a state
    [..., n]. Where tanh squashes, an action at a limit counts as just within.
    """
    with torch.no_grad():
        mean, factor = policy.gaussian(state)
        values = wanted
        if policy.squash:
            lower, upper = torch.tensor(policy.spec.action.lower), torch.tensor(policy.spec.action.upper)
            share = (2.0 * wanted - upper - lower) / (upper - lower)
            values = torch.atanh(share.clamp(-1.0 + SQUASH_MARGIN, 1.0 - SQUASH_MARGIN))
        return torch.linalg.solve_triangular(factor, (values - mean).unsqueeze(-1), upper=False).squeeze(-1)


def reparameterised_action(policy: NetworkPolicy, state: Tensor, noise: Tensor) -> Tensor:
    """pi(s, eta; theta) [..., m] for states [..., n] and noise [..., m], differentiable by state and weights.

    It is within the limits; where the policy clips, nothing goes back from beyond them.
    """
    mean, factor = policy.gaussian(state)
    values = mean + (factor @ noise.unsqueeze(-1)).squeeze(-1)
    if policy.squash:
        return policy.squashed(values)
    limits = policy.spec.action
    return values.clamp(torch.tensor(limits.lower).to(values), torch.tensor(limits.upper).to(values))


def step_derivatives(
    model: DynamicsModel, task: Task, state: Tensor, action: Tensor, next_state: Tensor
) -> StepDerivatives:
    """Derivatives of observed steps state [T, n], action [T, m] (executed), next_state [T, n], with the inferred noise
    of each member, mean over members.
    """
    noise, _ = inferred_dynamics_noise(model, state, action, next_state)
    size, inputs = state.shape[1], state.shape[1] + action.shape[1]
    outputs = size + 1
    with torch.enable_grad():
        # A copy of each row for every output, since a backward pass adds up what comes from all of them.
        joint = torch.cat([state, action], dim=1).expand(outputs, model.members, -1, -1).clone().requires_grad_(True)
        rows = joint.transpose(0, 1).flatten(1, 2)
        repeated = noise.repeat(1, outputs, 1)
        prediction = model.predict(rows[..., :size], rows[..., size:])
        deviation = prediction.variance.clamp_min(1e-30).sqrt() if bool((noise != 0.0).any()) else 0.0
        following = prediction.mean + deviation * repeated
        reward = task.reward(rows[..., :size], rows[..., size:], following)
        values = torch.cat([following, reward.unsqueeze(-1)], dim=-1).unflatten(1, (outputs, -1))
        (slope,) = torch.autograd.grad(torch.einsum("moto->", values), joint)
    slope = slope.mean(dim=1).transpose(0, 1)
    assert slope.shape[1:] == (outputs, inputs)
    return StepDerivatives(slope[:, :size, :size], slope[:, :size, size:], slope[:, size, :size], slope[:, size, size:])


def policy_slopes(policy: NetworkPolicy, state: Tensor, noise: Tensor) -> Tensor:
    """pi_s [T, m, n]: derivatives of actions by states [T, n], their noise [T, m] held."""
    with torch.enable_grad():
        point = state.detach().clone().requires_grad_(True)
        action = reparameterised_action(policy, point, noise)
        rows = [
            torch.autograd.grad(action[:, index].sum(), point, retain_graph=True)[0] for index in range(noise.shape[1])
        ]
    return torch.stack(rows, dim=1)


def trajectory_action_gradients(
    steps: StepDerivatives, slopes: Tensor, discount: float, tail: Tensor, largest: float
) -> Tensor:
    """SVG(infinity): derivatives [T, m] of the return of one observed trajectory by each of its actions,

        g_t = gamma^t (r_a + gamma v'_s' f_a),   v_s = r_s + r_a pi_s + gamma v'_s' (f_s + f_a pi_s)

    backwards from v_s = `tail` [n] after the last step (equations 6 and 7 and algorithm 1 of the paper, which has zero
    there). Their products with pi_theta add up to v_theta of the first state. `slopes` are pi_s [T, m, n]. A v_s
    beyond a norm of `largest` is scaled down to it: its factors multiply over the whole trajectory.
    """
    gradients = torch.zeros(slopes.shape[:2], dtype=slopes.dtype)
    value = tail
    for step in reversed(range(len(slopes))):
        onward = discount * value
        by_action = steps.reward_by_action[step] + onward @ steps.by_action[step]
        value = steps.reward_by_state[step] + onward @ steps.by_state[step] + by_action @ slopes[step]
        norm = float(torch.linalg.vector_norm(value))
        value = value * min(1.0, largest / norm) if norm > 0.0 else value
        gradients[step] = discount**step * by_action
    return gradients


def one_step_action_gradients(steps: StepDerivatives, value_slopes: Tensor, discount: float) -> Tensor:
    """SVG(1): r_a + gamma V'_s' f_a [B, m] of single transitions; value_slopes V'_s' [B, n] at the next states, zero
    where the episode ends there (equation 9 and algorithm 2 of the paper).
    """
    return steps.reward_by_action + discount * torch.einsum("bi,bij->bj", value_slopes, steps.by_action)
