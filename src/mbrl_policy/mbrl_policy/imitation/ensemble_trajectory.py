# SPDX-License-Identifier: Apache-2.0
"""One control trajectory with feedback for many versions of a robot at once, by iLQR whose step they all share."""

from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.specs import Array, state_difference
from mbrl_core.tasks import Task
from mbrl_dynamics.randomised import RandomisedSimulations
from mbrl_planner.backward import stage_penalties
from mbrl_planner.box_qp import box_qp
from mbrl_planner.expansion import Expansion, penalty_derivatives

SHARES = 0.5 ** np.arange(8)  # of the line search


@dataclass(frozen=True)
class EnsembleTrajectory:
    """u_t = clip(actions_t + gains_t (x_t - reference_t)) in every version.

    Attributes:
        actions: ubar [H, m].
        gains: K [H, m, n].
        reference: [H + 1, n], the mean of the versions' states.
        states: [members, H + 1, n] of the versions.
        executed: [members, H, m], what each one then does.
        returns: [members]; -inf of a version whose numbers stop being finite.
    """

    actions: Array
    gains: Array
    reference: Array
    states: Array
    executed: Array
    returns: Array

    @property
    def mean_return(self) -> float:
        """Over the versions."""
        return float(self.returns.mean())


class EnsembleProblem:
    """A task for all versions of a robot, each from its own start [members, n]."""

    def __init__(self, simulations: RandomisedSimulations, task: Task, starts: Array, feedback: bool = True) -> None:
        self.simulations, self.task, self.starts, self.feedback = simulations, task, starts, feedback
        self.spec = simulations.spec
        self.lower, self.upper = np.array(self.spec.action.lower), np.array(self.spec.action.upper)

    def rolled_out(self, actions: Array, gains: Array) -> list[EnsembleTrajectory]:
        """Of control trajectories [B, H, m] with the same gains [H, m, n]; the reference is found on the way."""
        count, horizon, _ = actions.shape
        members, size = self.starts.shape
        states = np.empty((members, count, horizon + 1, size))
        executed = np.empty((members, count, horizon, actions.shape[-1]))
        reference = np.empty((count, horizon + 1, size))
        states[:, :, 0] = self.starts[:, None]
        for step in range(horizon + 1):
            here = states[:, :, step]
            error = state_difference(here, here[:1], self.spec.state.angular)
            reference[:, step] = here[0] + error.mean(axis=0)
            if step == horizon:
                break
            error = state_difference(here, reference[:, step], self.spec.state.angular)
            wanted = actions[:, step] + error @ gains[step].T
            executed[:, :, step] = np.clip(wanted, self.lower, self.upper)
            states[:, :, step + 1] = self.simulations.step(here, executed[:, :, step])
        returns = self._returns(states, executed)
        return [
            EnsembleTrajectory(
                actions[index], gains, reference[index], states[:, index], executed[:, index], returns[:, index]
            )
            for index in range(count)
        ]

    def _returns(self, states: Array, actions: Array) -> Array:
        rewards = self.task.reward(states[..., :-1, :], actions, states[..., 1:, :])
        ended = np.logical_or.accumulate(np.asarray(self.task.terminated(states[..., :-1, :])), axis=-1)
        totals = np.where(ended, 0.0, rewards).sum(axis=-1)
        return np.where(np.isfinite(totals) & np.isfinite(states).all(axis=(-1, -2)), totals, -np.inf)

    def improved(self, trajectory: EnsembleTrajectory, damping: float) -> EnsembleTrajectory | None:
        """The best of a line search along `shared_step`; None where nothing is better."""
        step = shared_step(self, trajectory, damping)
        if step is None:
            return None
        offsets, gains = step
        if not self.feedback:
            gains = np.zeros_like(gains)
        candidates = np.clip(trajectory.actions + SHARES[:, None, None] * offsets, self.lower, self.upper)
        best = max(self.rolled_out(candidates, gains), key=lambda one: one.mean_return)
        return best if best.mean_return > trajectory.mean_return else None


def shared_step(problem: EnsembleProblem, trajectory: EnsembleTrajectory, damping: float) -> tuple[Array, Array] | None:
    """k [H, m] and K [H, m, n], the same for all versions i:

        k = argmin of mean_i [1/2 k'Q_uu^i k + k'Q_u^i] within the limits,   K = -(mean_i Q_uu^i)^-1 mean_i Q_ux^i
        V_x^i = Q_x^i + K'Q_uu^i k + K'Q_u^i + Q_ux^i'k,   V_xx^i = Q_xx^i + K'Q_uu^i K + K'Q_ux^i + Q_ux^i'K

    each version along its own trajectory, with the value of the law that they share instead of its own best one.
    `damping` is added to the diagonal of Q_uu, actions in half ranges. None where Q_uu is not positive definite or the
    expansion not finite.
    """
    members, horizon, width = trajectory.executed.shape
    size = trajectory.states.shape[-1]
    expanded = [_stage(problem, trajectory, member) for member in range(members)]
    if any(stage is None for stage in expanded):
        return None
    jacobian, slope, curvature = (np.stack(columns) for columns in zip(*(s for s in expanded if s), strict=True))
    unit = damping * np.diag(1.0 / (0.5 * (problem.upper - problem.lower)) ** 2)
    offsets, gains = np.zeros((horizon, width)), np.zeros((horizon, width, size))
    value_slope, value = np.zeros((members, size)), np.zeros((members, size, size))
    for step in reversed(range(horizon)):
        by = jacobian[:, step]
        back = np.swapaxes(by, 1, 2)
        q = slope[:, step] + (back @ value_slope[..., None])[..., 0]
        q_both = curvature[:, step] + back @ value @ by
        q_uu, q_ux = q_both[:, size:, size:], q_both[:, size:, :size]
        limits = problem.lower - trajectory.actions[step], problem.upper - trajectory.actions[step]
        try:
            solution = box_qp(q_uu.mean(axis=0) + unit, q[:, size:].mean(axis=0), *limits)
        except np.linalg.LinAlgError:
            return None
        offset, gain = solution.minimiser, gains[step]
        if solution.free.any():
            gain[solution.free] = -solution.solve(q_ux.mean(axis=0)[solution.free])
        offsets[step] = offset
        value_slope = q[:, :size] + (q_uu @ offset + q[:, size:]) @ gain + np.swapaxes(q_ux, 1, 2) @ offset
        cross = gain.T @ q_ux
        value = q_both[:, :size, :size] + gain.T @ q_uu @ gain + cross + np.swapaxes(cross, 1, 2)
        value = 0.5 * (value + np.swapaxes(value, 1, 2))
    return (offsets, gains) if np.isfinite(offsets).all() and np.isfinite(gains).all() else None


def _stage(problem: EnsembleProblem, trajectory: EnsembleTrajectory, member: int) -> tuple[Array, Array, Array] | None:
    """Jacobian [H, n, n + m], slope [H, n + m] and convex curvature of the penalty along one version's trajectory."""
    states, actions = trajectory.states[member], trajectory.executed[member]
    by_state, by_action = problem.simulations.jacobians(member, states[:-1], actions)
    tensors = (torch.from_numpy(np.ascontiguousarray(values)) for values in (states[:-1], actions, states[1:]))
    first, second = penalty_derivatives(problem.task.reward, *tensors)
    alive = ~np.logical_or.accumulate(np.asarray(problem.task.terminated(states[:-1])))
    expansion = Expansion(by_state, by_action, None, first * alive[:, None], second * alive[:, None, None])
    slope, curvature = stage_penalties(expansion, convex=True)
    if not (np.isfinite(by_state).all() and np.isfinite(slope).all() and np.isfinite(curvature).all()):
        return None
    return np.concatenate([by_state, by_action], axis=2), slope, curvature
