# SPDX-License-Identifier: Apache-2.0
"""Distributions q over short trajectories that follow a reward: linear-Gaussian controllers, many starts at once.

About a nominal trajectory the distribution exp(return) is Gaussian to second order; its controller is that of LQR with
covariance Q_uu^-1 (Levine and Koltun 2013, "Guided policy search", section 3). It is what samples for the partition
function should come from: the closer to exp(return), the more even the importance weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_core.specs import Array, RobotSpec
from mbrl_dynamics.model import DynamicsModel
from mbrl_planner.expansion import MeanDynamics, Reward, penalty_derivatives

SHARES = (1.0, 0.5, 0.2, 0.05)  # of a step, tried at once
LEAST_DAMPING, MOST_DAMPING = 1e-6, 1e6


@dataclass(frozen=True)
class Proposals:
    """u_t = uhat_t + K_t (x_t - xhat_t) + N(0, L_t L_t'), one controller for each of B starts.

    states xhat [B, H + 1, n], actions uhat [B, H, m], gains K [B, H, m, n], roots L [B, H, m, m], angles of differences
    wrapped where angular [n].
    """

    states: Tensor
    actions: Tensor
    gains: Tensor
    roots: Tensor
    angular: Tensor

    def means(self, states: Tensor, step: int) -> Tensor:
        """Of u_t [B, J, m] at states [B, J, n]."""
        error = difference(states, self.states[:, None, step], self.angular)
        return self.actions[:, None, step] + torch.einsum("bmn,bjn->bjm", self.gains[:, step], error)

    def step_log_densities(self, states: Tensor, actions: Tensor) -> Tensor:
        """log q(u_t | x_t) [B, J, H] of states [B, J, H + 1, n] and actions [B, J, H, m]."""
        error = difference(states[:, :, :-1], self.states[:, None, :-1], self.angular)
        mean = self.actions[:, None] + torch.einsum("bhmn,bjhn->bjhm", self.gains, error)
        scaled = torch.linalg.solve_triangular(self.roots[:, None], (actions - mean)[..., None], upper=False)
        constant = self.roots.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * actions.shape[-1] * math.log(2 * math.pi)
        return -0.5 * scaled.square().sum(dim=(-2, -1)) - constant[:, None]

    def log_densities(self, states: Tensor, actions: Tensor) -> Tensor:
        """sum_t log q(u_t | x_t) [B, J]."""
        return self.step_log_densities(states, actions).sum(dim=-1)


@dataclass(frozen=True)
class Noise:
    """The least and most standard deviation of a proposal's actions, in half ranges of the action."""

    least: float
    most: float


class Guide:
    """Makes proposals through a model, known or learned, for whatever the reward is at the moment.

    Actions beyond the limits are clipped on their way into the model, and cost `limit_weight` / 2 times the squared
    excess in half ranges: their density stays that of what was wanted.
    """

    def __init__(self, model: DynamicsModel, spec: RobotSpec, noise: Noise, limit_weight: float) -> None:
        self.dynamics, self.noise, self.limit_weight = MeanDynamics(model), noise, limit_weight
        self.lower, self.upper = (
            torch.tensor(values, dtype=torch.float64) for values in (spec.action.lower, spec.action.upper)
        )
        self.half_range = 0.5 * (self.upper - self.lower)
        self.angular = torch.from_numpy(np.array(spec.state.angular))

    def limits(self, action: Tensor) -> Tensor:
        """The price [...] of actions [..., m] beyond the limits."""
        excess = (torch.relu(action - self.upper) + torch.relu(self.lower - action)) / self.half_range
        return 0.5 * self.limit_weight * excess.square().sum(dim=-1)

    def limited(self, reward: Reward) -> Reward:
        """`reward` less the price of limits."""
        return lambda state, action, next_state: reward(state, action, next_state) - self.limits(action)

    @torch.no_grad()
    def roll_out(
        self, start: Tensor, action_at: Callable[[Tensor, int], Tensor], horizon: int
    ) -> tuple[Tensor, Tensor]:
        """States [B, J, H + 1, n] and wanted actions [B, J, H, m] from start [B, J, n]; `action_at`(states, step)."""
        states, actions, (starts, count, size) = [start], [], start.shape
        for step in range(horizon):
            action = action_at(states[-1], step)
            executed = torch.clamp(action, self.lower, self.upper)
            rows = self.dynamics.step(states[-1].reshape(-1, size), executed.reshape(starts * count, -1))
            states.append(rows.reshape(starts, count, size))
            actions.append(action)
        return torch.stack(states, dim=2), torch.stack(actions, dim=2)

    def sampled(self, proposals: Proposals, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` trajectories of each controller in the model: states [B, J, H + 1, n], actions [B, J, H, m]."""
        starts, horizon, width = proposals.actions.shape
        noise = torch.randn(starts, count, horizon, width, generator=random, dtype=torch.float64)

        def action_at(states: Tensor, step: int) -> Tensor:
            return proposals.means(states, step) + torch.einsum(
                "bik,bjk->bji", proposals.roots[:, step], noise[:, :, step]
            )

        start = proposals.states[:, :1].expand(-1, count, -1)
        return self.roll_out(start, action_at, horizon)

    def improved(self, reward: Reward, states: Tensor, actions: Tensor, iterations: int) -> Proposals:
        """Proposals about locally best trajectories: iLQR in parallel from states [B, H + 1, n], actions [B, H, m]."""
        limited = self.limited(reward)
        starts, horizon, width = actions.shape
        damping = torch.full((starts,), 1e-3, dtype=torch.float64)
        gains = torch.zeros(starts, horizon, width, states.shape[-1], dtype=torch.float64)
        # Begin where the model goes, not where the robot went: with feedback nothing would come back to it.
        rolled, _ = self.roll_out(states[:, :1], lambda _, step: actions[:, None, step], horizon)
        states, total = rolled[:, 0], _total(limited, rolled, actions[:, None])[:, 0]
        for _ in range(iterations):
            gains, steps, _ = self._backward(limited, states, actions, damping)
            shares = torch.tensor(SHARES, dtype=torch.float64)

            def action_at(at: Tensor, step: int) -> Tensor:
                error = difference(at, states[:, None, step], self.angular)  # noqa: B023
                feedback = torch.einsum("bmn,bjn->bjm", gains[:, step], error)  # noqa: B023
                return actions[:, None, step] + shares[None, :, None] * steps[:, None, step] + feedback  # noqa: B023

            tried, wanted = self.roll_out(states[:, :1].expand(-1, len(SHARES), -1), action_at, horizon)
            totals = _total(limited, tried, wanted)
            best, index = torch.where(totals.isfinite(), totals, -torch.inf).max(dim=1)
            better = best > total
            rows = torch.arange(starts)
            states = torch.where(better[:, None, None], tried[rows, index], states)
            actions = torch.where(better[:, None, None], wanted[rows, index], actions)
            total = torch.where(better, best, total)
            damping = torch.where(better, damping / 3.0, damping * 8.0).clamp(LEAST_DAMPING, MOST_DAMPING)
        gains, _, roots = self._backward(limited, states, actions, torch.full_like(damping, LEAST_DAMPING))
        return Proposals(states, actions, gains, roots, self.angular)

    def tracking(self, states: Tensor, actions: Tensor, gains: Tensor, std: float) -> Proposals:
        """About given trajectories, with noise of `std` half ranges and the gains [B, H, m, n] of other proposals."""
        roots = torch.diag(std * self.half_range).expand(*actions.shape, -1)
        return Proposals(states, actions, gains, roots, self.angular)

    def _backward(
        self, reward: Reward, states: Tensor, actions: Tensor, damping: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gains [B, H, m, n], steps [B, H, m] and roots of Q_uu^-1 [B, H, m, m] within the noise's bounds."""
        starts, horizon, width = actions.shape
        size, both = states.shape[-1], states.shape[-1] + width
        executed = torch.clamp(actions, self.lower, self.upper)
        parts = states[:, :-1].reshape(-1, size), actions.reshape(-1, width), states[:, 1:].reshape(-1, size)
        by_state, by_action = self.dynamics.jacobians(parts[0], executed.reshape(-1, width))
        slope, curvature = (torch.from_numpy(values) for values in penalty_derivatives(reward, *parts))
        values, vectors = torch.linalg.eigh(curvature)
        curvature = (vectors * values.clamp_min(0.0)[:, None]) @ vectors.mT
        later = torch.cat([by_state, by_action], dim=-1)
        eye = torch.eye(both, dtype=torch.float64).expand(len(later), -1, -1)
        chain = torch.cat([eye, later], dim=1)
        weight = (chain.mT @ curvature @ chain).reshape(starts, horizon, both, both)
        linear = (chain.mT @ slope[..., None])[..., 0].reshape(starts, horizon, both)
        later = later.reshape(starts, horizon, size, both)
        value, value_slope = torch.zeros(starts, size, size).double(), torch.zeros(starts, size).double()
        gains, steps, roots = [], [], []
        scale = self.half_range
        # Actions in half ranges, so that damping and the bounds of noise mean the same on every robot.
        unit = torch.cat([torch.ones(size, dtype=torch.float64), scale])
        for step in reversed(range(horizon)):
            move = later[:, step]
            quality = weight[:, step] + move.mT @ value @ move
            quality_slope = linear[:, step] + (move.mT @ value_slope[..., None])[..., 0]
            quality, quality_slope = quality * unit[:, None] * unit, quality_slope * unit
            own = quality[:, size:, size:]
            precision, directions = torch.linalg.eigh(0.5 * (own + own.mT))
            precision = precision.clamp_min(0.0)
            damped = (directions / (precision + damping[:, None] + LEAST_DAMPING)[:, None]) @ directions.mT
            gain = -damped @ quality[:, size:, :size]
            move_step = -(damped @ quality_slope[:, size:, None])[..., 0]
            std = (precision + LEAST_DAMPING).rsqrt().clamp(self.noise.least, self.noise.most)
            covariance = (directions * std.square()[:, None]) @ directions.mT
            roots.append(scale[:, None] * torch.linalg.cholesky(covariance))
            gains.append(scale[:, None] * gain)
            steps.append(scale * move_step)
            cross = quality[:, :size, size:]
            value = quality[:, :size, :size] + gain.mT @ own @ gain + cross @ gain + gain.mT @ cross.mT
            value = 0.5 * (value + value.mT)
            value_slope = (
                quality_slope[:, :size]
                + (
                    gain.mT @ (own @ move_step[..., None] + quality_slope[:, size:, None])
                    + cross @ move_step[..., None]
                )[..., 0]
            )
        return tuple(torch.stack(list(reversed(values)), dim=1) for values in (gains, steps, roots))


def difference(states: Tensor, about: Tensor, angular: Tensor) -> Tensor:
    """states - about [..., n], angles the shorter way round."""
    error = states - about
    return torch.where(angular, torch.remainder(error + math.pi, 2.0 * math.pi) - math.pi, error)


def tensor(values: Array) -> Tensor:
    """In double precision."""
    return torch.from_numpy(np.array(values, dtype=np.float64))


@torch.no_grad()
def _total(reward: Reward, states: Tensor, actions: Tensor) -> Tensor:
    """Returns [B, J]."""
    return reward(states[:, :, :-1], actions, states[:, :, 1:]).sum(dim=-1)
