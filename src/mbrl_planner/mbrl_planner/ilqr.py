# SPDX-License-Identifier: Apache-2.0
"""Iterative LQR with limits on the actions."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_planner.backward import Improvement, NotConvex, Regularisation, backward_pass, stage_penalties
from mbrl_planner.errors import OutOfTime
from mbrl_planner.expansion import Expansion, Trajectory, TrajectoryProblem
from mbrl_planner.registry import PLANNERS
from mbrl_planner.trajectory_planner import TrajectoryConfig, TrajectoryPlanner

SHORTER_STEPS = 0.5 ** np.arange(1, 9)  # of the line search, after the whole step
LEAST_REGULARISATION = 1e-6
FACTOR = 2.0  # delta_0 of Tassa, Erez and Todorov 2012, section II.F


@dataclass(frozen=True)
class IlqrConfig(TrajectoryConfig):
    """Parameters of iLQR and DDP; `population_size` is the number of starts of an episode's first plan."""

    initial_std: float = parameter(
        0.5, "standard deviation of the starts around the last plan, as a share of half the action range", minimum=0.0
    )
    noise_exponent: float = parameter(
        2.0, "the starts' noise falls as 1 / frequency^exponent; 0 is white", minimum=0.0, maximum=10.0
    )
    restarts: int = parameter(4, "starts tried beside the last plan, where there is one", minimum=0, maximum=10_000)
    convex: bool = parameter(
        True, "take negative eigenvalues of each step's penalty as zero, so that every step is a descent"
    )
    regularisation: float = parameter(
        1e-3, "first weight of the step's square, actions in half ranges; raised when a step fails", minimum=0.0
    )
    most_regularisation: float = parameter(1e8, "weight at which an iteration gives up", minimum=1e-3)
    state_regularisation: bool = parameter(
        False, "weigh the square of the states' deviation too, which keeps the new trajectory near the old one"
    )
    least_share: float = parameter(
        0.1, "share of the expected improvement that a step must bring to be taken", minimum=0.0, maximum=0.9
    )
    tolerance: float = parameter(
        1e-5, "expected improvement, relative to the return, below which a plan is finished", minimum=0.0
    )


@PLANNERS.register("ilqr", IlqrConfig)
class Ilqr(TrajectoryPlanner):
    """iLQR of Li and Todorov 2004 ("Iterative linear quadratic regulator design for nonlinear biological movement
    systems") as Tassa, Erez and Todorov 2012 ("Synthesis and stabilization of complex behaviors through online
    trajectory optimization") made it robust and Tassa, Mansard and Todorov 2014 ("Control-limited differential dynamic
    programming") gave it limits.

    An iteration expands dynamics to first and penalty to second order about the trajectory, solves for the best
    correction backward in time (`backward_pass`), and tries it on the dynamics themselves:

        u_t = clip(ubar_t + share k_t + K_t (x_t - xbar_t)),   share = 1, 1/2, 1/4, ...

    and takes the largest share that saves at least `least_share` of what share k'Q_u + share^2/2 k'Q_uu k promises.
    Otherwise the regularisation mu of Q_uu + mu (and, if asked for, V_xx + mu) grows by the schedule of Tassa et al.
    2012, section II.F; it falls with every step that succeeds. Without limits in the way a linear-quadratic problem is
    solved by the first iteration.

    A plan starts from the last one, executed with its own feedback, or from the best of `restarts` noisy ones beside
    it; the first of an episode from the best of `population_size`.
    """

    kind = "ilqr"
    config: IlqrConfig
    second_order: ClassVar[bool] = False

    def reset(self) -> None:
        super().reset()
        self._damping, self._damping_factor = self.config.regularisation, 1.0
        self.action_curvature: Array | None = None
        """Q_uu [H, m, m] of the last plan's newest backward pass, reward a square of action; None before one."""

    def _begin(self, passed: int) -> None:
        super()._begin(passed)
        if self._damping > self.config.most_regularisation:  # the last plan gave up, this one starts afresh
            self._damping, self._damping_factor = self.config.regularisation, 1.0

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        problem, before = self._problem(), self._nominal
        if index == 0:
            self._nominal = self._start(problem, state)
        try:
            self._improve(problem, state)
        except OutOfTime:
            if index > 0 or self.has_answer:
                self._nominal = before  # the present gains are about this one
                raise
            self._finished = True  # without an earlier plan the best start is an answer

    def _improve(self, problem: TrajectoryProblem, state: Array) -> None:
        if self._expansion is None:
            self._expansion = problem.expand(self._nominal, self.second_order)
        expansion = self._expansion
        improvement = self._improvement(problem, expansion)
        if improvement is None:
            self._finished = True
            return
        if improvement.expected(1.0) <= self.config.tolerance * (1.0 + abs(self._nominal.total)):
            self._finished = True
        better = self._line_search(problem, state, improvement)
        self.action_curvature = improvement.curvatures
        self._gains = improvement.gains  # about either trajectory: a plan that cannot be improved needs them, too
        if better is None:
            if not self._finished:  # at an optimum nothing is wrong with the step
                self._raise_damping()
            return
        self._lower_damping()
        self._nominal, self._expansion = better, None

    def _start(self, problem: TrajectoryProblem, state: Array) -> Trajectory:
        config = self.config
        count = config.population_size if self._previous is None else 1 + config.restarts
        return self._best_start(problem, state, count, config.initial_std, config.noise_exponent)

    def _improvement(self, problem: TrajectoryProblem, expansion: Expansion) -> Improvement | None:
        """The backward pass with as much regularisation as it needs; None when no amount is enough."""
        stage = stage_penalties(expansion, self.config.convex)
        if not (np.isfinite(stage[0]).all() and np.isfinite(stage[1]).all()):
            return None
        unit = np.diag(1.0 / np.maximum(self.half_range.astype(np.float64), 1e-9) ** 2)
        while self._damping <= self.config.most_regularisation:
            state_damping = self._damping if self.config.state_regularisation else 0.0
            regularisation = Regularisation(self._damping * unit, state_damping)
            try:
                return problem.timing.piece(
                    "backward_pass",
                    partial(
                        backward_pass,
                        expansion,
                        stage,
                        self._nominal.actions,
                        (self._lower, self._upper),
                        regularisation,
                    ),
                )
            except NotConvex:
                self._raise_damping()
        return None

    def _line_search(self, problem: TrajectoryProblem, state: Array, improvement: Improvement) -> Trajectory | None:
        nominal = self._nominal
        for shares in (np.ones(1), SHORTER_STEPS):
            wanted = nominal.actions + shares[:, None, None] * improvement.offsets
            for share, reached in zip(
                shares, problem.closed_loop(state, nominal.states, wanted, improvement.gains), strict=True
            ):
                gained, expected = reached.total - nominal.total, improvement.expected(float(share))
                if gained > 0.0 and gained >= self.config.least_share * expected:
                    return reached
        return None

    def _raise_damping(self) -> None:
        self._damping_factor = max(FACTOR, self._damping_factor * FACTOR)
        self._damping = max(LEAST_REGULARISATION, self._damping * self._damping_factor)

    def _lower_damping(self) -> None:
        self._damping_factor = min(1.0 / FACTOR, self._damping_factor / FACTOR)
        damping = self._damping * self._damping_factor
        self._damping = damping if damping >= LEAST_REGULARISATION else 0.0
