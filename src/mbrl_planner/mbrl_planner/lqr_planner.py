# SPDX-License-Identifier: Apache-2.0
"""LQR about a nominal trajectory or about a state, as a planner."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.backward import stage_penalties
from mbrl_planner.expansion import Trajectory, TrajectoryProblem
from mbrl_planner.lqr import LinearDynamics, QuadraticPenalty, RiccatiError, finite_horizon, infinite_horizon
from mbrl_planner.planner import PlanningError
from mbrl_planner.registry import PLANNERS
from mbrl_planner.trajectory_planner import TrajectoryConfig, TrajectoryPlanner


@dataclass(frozen=True)
class LqrConfig(TrajectoryConfig):
    """Parameters of LQR. `iterations` above one linearise again about the result; `population_size` says nothing."""

    infinite: bool = parameter(
        False, "linearise at the present state and follow the stationary controller, instead of along the last plan"
    )
    least_curvature: float = parameter(
        1e-6, "least second derivative of a step's penalty by an action in half ranges", minimum=1e-12
    )


@PLANNERS.register("lqr", LqrConfig)
class Lqr(TrajectoryPlanner):
    """Linear-quadratic regulator (Kalman 1960; Anderson and Moore, "Optimal Control: Linear Quadratic Methods").

    Finite horizon: dynamics to first and penalty to second order about the last plan's trajectory from the present
    state (in the first plan that of constant actions in the middle of their limits),

        dx_(t+1) = A_t dx_t + B_t du_t,   l_t = 1/2 dx'Q_t dx + du'S_t dx + 1/2 du'R_t du + q_t'dx + r_t'du

    are solved once by the Riccati recursion of `finite_horizon`, and the whole step is taken: no line search, limits by
    clipping. Negative curvature of a penalty counts as zero. Infinite horizon: A, B, Q, S, R are those at the
    present state and the nominal's first action, and u_t = u_0 + k + K (x_t - x_0) is the stationary controller of the
    algebraic Riccati equation, for the surroundings of an equilibrium. Either is rolled out through the dynamics;
    where it earns less than the nominal trajectory the latter is the plan, with the same gains.

    Raises PlanningError where the stationary controller does not exist.
    """

    kind = "lqr"
    config: LqrConfig

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        problem = self._problem()
        if index == 0:
            self._nominal = self._best_start(problem, state, 1, 0.0, 0.0)
        solve = self._stationary if self.config.infinite else self._time_varying
        reached = solve(problem, state)
        self._finished = self.config.infinite or reached is None
        if reached is not None and reached.total > self._nominal.total:
            self._nominal = reached

    def _time_varying(self, problem: TrajectoryProblem, state: Array) -> Trajectory | None:
        """The trajectory of the best controller about the nominal one; None where the expansion is not finite."""
        problem_at = self._quadratic(problem, self._nominal)
        if problem_at is None:
            return None
        dynamics, penalty = problem_at
        try:
            controller = problem.timing.piece("riccati", lambda: finite_horizon(dynamics, penalty, self.config.horizon))
        except RiccatiError:
            return None
        wanted = self._nominal.actions + controller.offsets
        reached = problem.closed_loop(state, self._nominal.states, wanted[None], controller.gains)[0]
        self._gains = controller.gains
        return reached

    def _stationary(self, problem: TrajectoryProblem, state: Array) -> Trajectory | None:
        """The trajectory of the stationary controller at `state`; None where the expansion is not finite."""
        horizon, first = self.config.horizon, self._nominal.actions[:1]
        here = problem.open_loop(state, first[None])[0]
        problem_at = self._quadratic(problem, here)
        if problem_at is None:
            return None
        matrix, control, _ = (values[0] for values in vars(problem_at[0]).values())
        penalty = QuadraticPenalty(*(values[0] for values in vars(problem_at[1]).values()))
        drift = here.states[1] - here.states[0]
        try:
            controller = infinite_horizon(LinearDynamics(matrix, control, drift), penalty)
        except RiccatiError as error:
            raise PlanningError(
                f"parameter 'infinite': no stationary controller at {state.tolist()}: {error}"
            ) from None
        self._gains = np.tile(controller.gains, (horizon, 1, 1))
        reference = np.tile(here.states[:1], (horizon + 1, 1))
        wanted = np.tile(first + controller.offsets, (horizon, 1))
        return problem.closed_loop(state, reference, wanted[None], self._gains)[0]

    def _quadratic(
        self, problem: TrajectoryProblem, nominal: Trajectory
    ) -> tuple[LinearDynamics, QuadraticPenalty] | None:
        """Dynamics and penalty in deviations from `nominal`, each [H, ...]; None where they are not finite."""
        expansion = problem.expand(nominal, second_order=False)
        slope, curvature = stage_penalties(expansion, convex=True)
        if not (np.isfinite(slope).all() and np.isfinite(curvature).all()):
            return None
        size = expansion.by_state.shape[-1]
        least = self.config.least_curvature / np.maximum(self.half_range.astype(np.float64), 1e-9) ** 2
        dynamics = LinearDynamics(expansion.by_state, expansion.by_action, np.zeros((len(slope), size)))
        penalty = QuadraticPenalty(
            state=curvature[:, :size, :size],
            cross=curvature[:, size:, :size],
            action=curvature[:, size:, size:] + np.diag(least),
            state_linear=slope[:, :size],
            action_linear=slope[:, size:],
        )
        return dynamics, penalty
