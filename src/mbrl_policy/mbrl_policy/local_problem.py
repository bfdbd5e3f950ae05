# SPDX-License-Identifier: Apache-2.0
"""A trajectory's return as local methods see it: linear-Gaussian dynamics and a quadratic model of the reward."""

from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.specs import ActionSpec, Array
from mbrl_dynamics.local_linear import LocalDynamics, Moments, check_array, check_covariances
from mbrl_planner.expansion import Ended, Reward, penalty_derivatives
from mbrl_planner.lqr import QuadraticPenalty
from mbrl_policy.linear_gaussian import LinearGaussianController


@dataclass(frozen=True)
class LocalProblem:
    """What a trajectory step improves.

    Attributes:
        dynamics: x_(t+1) = A_t x_t + B_t u_t + c_t + noise, H steps.
        penalty: minus the reward of each step as a quadratic function of x_t and u_t, all with a leading dimension [H].
        constant: [H], what the penalty is at x_t = 0, u_t = 0, in units of reward.
        mean, covariance: [n], [n, n] of the first state.

    Raises ValueError on shapes that do not fit and on numbers that are not finite.
    """

    dynamics: LocalDynamics
    penalty: QuadraticPenalty
    constant: Array
    mean: Array
    covariance: Array

    def __post_init__(self) -> None:
        horizon, states, actions = self.dynamics.control.shape
        check_penalty(self.penalty, horizon, states, actions)
        check_array("penalty constant", self.constant, (horizon,))
        check_array("initial mean", self.mean, (states,))
        check_array("initial covariance", self.covariance, (states, states))
        check_covariances("initial covariance", self.covariance)

    def states(self, controller: LinearGaussianController) -> Moments:
        """Moments of the states and actions that `controller` leads to. Raises ValueError on shapes that do not fit."""
        return self.dynamics.moments(
            self.mean, self.covariance, controller.gains, controller.offsets, controller.covariances
        )

    def expected_rewards(self, controller: LinearGaussianController) -> Array:
        """[H], exact under this model; their sum is the expected return.

        E l = 1/2 m'W m + w'm + 1/2 tr(W C) + constant with z = (x, u) ~ N(m, C).
        """
        moments, penalty = self.states(controller), self.penalty
        weight = np.block([[penalty.state, np.swapaxes(penalty.cross, 1, 2)], [penalty.cross, penalty.action]])
        linear = np.concatenate([penalty.state_linear, penalty.action_linear], axis=1)
        mean, spread = moments.joint_mean, moments.joint_covariance
        expected = 0.5 * np.einsum("hij,hij->h", weight, spread + mean[:, :, None] * mean[:, None])
        return np.asarray(-(expected + (linear * mean).sum(axis=1) + self.constant))


def local_problem(
    reward: Reward,
    states: Array,
    actions: Array,
    dynamics: LocalDynamics,
    covariance: Array,
    ended: Ended | None = None,
    convex: bool = True,
) -> LocalProblem:
    """The problem about trajectories: states [R, H + 1, n] and actions [R, H, m], or one without the first dimension.

    The reward is expanded to second order about every trajectory and the expansions are averaged (Levine and Abbeel
    2014); its next state is what `dynamics` say, noise
    included. The first state is N(mean of the trajectories', `covariance` [n, n]). Actions are those that were wanted,
    not what the limits left of them: see `with_soft_limits`. With `convex` negative eigenvalues of each step's
    curvature become zero, while slope and value at the mean of the trajectories stay.

    Raises ValueError on shapes that do not fit and where the reward's derivatives are not finite.
    """
    horizon, size, width = dynamics.control.shape
    states, actions = states.reshape(-1, *states.shape[-2:]), actions.reshape(-1, *actions.shape[-2:])
    count = len(states)
    check_array("states", states, (count, horizon + 1, size))
    check_array("actions", actions, (count, horizon, width))
    joint = np.concatenate([states[:, :-1], actions, states[:, 1:]], axis=-1)
    value, slope, curvature = _expanded(reward, joint, size, ended)
    # From offsets about each trajectory to one quadratic function of (x, u, y) itself.
    turned = (curvature @ joint[..., None])[..., 0]
    linear = (slope - turned).mean(axis=0)
    constant = (value - (slope * joint).sum(axis=-1) + 0.5 * (joint * turned).sum(axis=-1)).mean(axis=0)
    curvature = curvature.mean(axis=0)
    # y = (A, B) (x, u) + c + noise.
    both = size + width
    chain = np.concatenate(
        [np.broadcast_to(np.eye(both), (horizon, both, both)), np.concatenate([dynamics.matrix, dynamics.control], 2)],
        axis=1,
    )
    shift = np.concatenate([np.zeros((horizon, both)), dynamics.offset], axis=1)
    turned = (curvature @ shift[..., None])[..., 0]
    constant = constant + ((linear + 0.5 * turned) * shift).sum(axis=1)
    constant = constant + 0.5 * np.einsum("hij,hij->h", curvature[:, both:, both:], dynamics.covariance)
    back = np.swapaxes(chain, 1, 2)
    linear, curvature = (back @ (linear + turned)[..., None])[..., 0], back @ curvature @ chain
    if convex:
        centre = joint[..., :both].mean(axis=0)
        linear, curvature, constant = _convex(linear, curvature, constant, centre)
    penalty = QuadraticPenalty(
        state=curvature[:, :size, :size], cross=curvature[:, size:, :size], action=curvature[:, size:, size:],
        state_linear=linear[:, :size], action_linear=linear[:, size:],
    )  # fmt: skip
    return LocalProblem(dynamics, penalty, constant, states[:, 0].mean(axis=0), covariance)


def with_soft_limits(reward: Reward, spec: ActionSpec, weight: float) -> Reward:
    """`reward` less weight / 2 times the square of what an action exceeds its limits by, in half ranges.

    Linear-Gaussian controllers know no limits: a robot clips what they ask for. Without a price the optimiser would
    count on more action than there is. Expanded about wanted actions this price, zero within the limits, pulls them
    back. Raises ValueError when `weight` (reward) is negative or not finite.
    """
    if not (np.isfinite(weight) and weight >= 0.0):
        raise ValueError(f"weight of the action limits: got {weight}, expected a finite number of at least 0")
    lower, upper = (torch.tensor(values, dtype=torch.float64) for values in (spec.lower, spec.upper))
    half_range = 0.5 * (upper - lower)

    def limited(state: torch.Tensor, action: torch.Tensor, next_state: torch.Tensor) -> torch.Tensor:
        excess = (torch.relu(action - upper) + torch.relu(lower - action)) / half_range
        return reward(state, action, next_state) - 0.5 * weight * excess.square().sum(dim=-1)

    return limited


def check_penalty(penalty: QuadraticPenalty, horizon: int, states: int, actions: int) -> None:
    """Raises ValueError on shapes other than `QuadraticPenalty`'s with a leading [H], and on non-finite numbers."""
    check_array("penalty state", penalty.state, (horizon, states, states))
    check_array("penalty cross", penalty.cross, (horizon, actions, states))
    check_array("penalty action", penalty.action, (horizon, actions, actions))
    check_array("penalty state_linear", penalty.state_linear, (horizon, states))
    check_array("penalty action_linear", penalty.action_linear, (horizon, actions))


def _expanded(reward: Reward, joint: Array, size: int, ended: Ended | None) -> tuple[Array, Array, Array]:
    """Penalties [R, H], slopes [R, H, n + m + n] and curvatures; zero after a terminal state."""
    rows = torch.from_numpy(joint.reshape(-1, joint.shape[-1]))
    parts = rows[:, :size], rows[:, size:-size], rows[:, -size:]
    with torch.no_grad():
        value = -reward(*parts).numpy().reshape(joint.shape[:2])
    slope, curvature = (values.reshape(*joint.shape[:2], *values.shape[1:]) for values in
                        penalty_derivatives(reward, *parts))  # fmt: skip
    if ended is not None:
        alive = ~ended(torch.from_numpy(joint[..., :size])).cummax(dim=-1).values.numpy()
        value, slope, curvature = value * alive, slope * alive[..., None], curvature * alive[..., None, None]
    for name, values in (("values", value), ("slopes", slope), ("curvatures", curvature)):
        bad = ~np.isfinite(values).reshape(*joint.shape[:2], -1).all(axis=-1)
        if bad.any():
            trajectory, step = (int(index) for index in np.argwhere(bad)[0])
            raise ValueError(f"reward: its {name} are not finite at step {step} of trajectory {trajectory}")
    return value, slope, curvature


def _convex(linear: Array, curvature: Array, constant: Array, centre: Array) -> tuple[Array, Array, Array]:
    """The same function's slope and value at `centre` [H, n + m], with no negative eigenvalue of its curvature."""
    values, vectors = np.linalg.eigh(curvature)
    changed = (vectors * np.maximum(values, 0.0)[:, None]) @ np.swapaxes(vectors, 1, 2)
    lost = ((curvature - changed) @ centre[..., None])[..., 0]
    return linear + lost, changed, constant - 0.5 * (lost * centre).sum(axis=1)
