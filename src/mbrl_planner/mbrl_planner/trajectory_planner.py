# SPDX-License-Identifier: Apache-2.0
"""What LQR, iLQR and DDP share: a nominal trajectory with feedback gains that moves on from plan to plan."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from mbrl_core.config import parameter
from mbrl_core.specs import Array, state_difference
from mbrl_planner.deadline import IndependentRows
from mbrl_planner.expansion import Expansion, Trajectory, TrajectoryProblem
from mbrl_planner.noise import coloured_noise
from mbrl_planner.planner import Answer, Planner, PlannerConfig

AS_PREDICTED = 1e-4  # most feedback, in half ranges, that a start may do without
SHARE_OF_STARTS = 0.5  # most of the time left that a choice among starts may take: the rest is for improving the best


@dataclass(frozen=True)
class TrajectoryConfig(PlannerConfig):
    """What trajectory optimisers share. `particles` says nothing to them: they follow one trajectory."""

    propagation: str = parameter(
        "mean", "trajectory optimisers follow the mean of the members, without noise", choices=("mean",)
    )


class TrajectoryPlanner(Planner):
    """Plans by improving a nominal trajectory xbar, ubar, that of the mean of the model's members, with gains K:

        u_t = clip(ubar_t + K_t (x_t - xbar_t))

    The plan has all three, so that the executor closes the loop between plans. Rows of K of actions at a limit are
    zero. Where there was no time to plan, the last plan goes on with its own states and gains.
    """

    config: TrajectoryConfig
    in_parts = False

    def _problem(self) -> TrajectoryProblem:
        """The problem of an iteration, whose work ends by OutOfTime when the deadline comes."""
        problem = self.objective.trajectory_problem(self.spec)
        if self.objective.divisible:
            problem.timing = self._time
        return problem

    def reset(self) -> None:
        super().reset()
        horizon, actions = self.config.horizon, self.spec.action.size
        self._lower: Array = np.array(self.spec.action.lower, dtype=np.float64)
        self._upper: Array = np.array(self.spec.action.upper, dtype=np.float64)
        states = np.zeros((horizon + 1, self.spec.state.size))
        self._nominal = Trajectory(states, self._central_actions().astype(np.float64), float("nan"))
        self._gains = np.zeros((horizon, actions, self.spec.state.size))
        self._expansion: Expansion | None = None
        self._finished = False

    def _begin(self, passed: int) -> None:
        self._move_on(passed)
        self._expansion = None
        self._finished = False

    def _move_on(self, passed: int) -> None:
        """The last plan from `passed` steps later on. The steps beyond it repeat its last action, without feedback."""
        if passed == 0:
            return
        nominal = self._nominal
        self._gains = np.concatenate([self._gains[passed:], np.zeros_like(self._gains[:passed])])
        states, actions = (self._shifted(values, passed) for values in (nominal.states, nominal.actions))
        self._nominal = Trajectory(states, actions, float("nan"))

    def _unchanged(self, passed: int) -> Answer:
        super()._unchanged(passed)  # raises where there is no last plan
        return replace(self._answer(), predicted_return=float("nan"))  # `_begin` has moved it on

    def _best_start(
        self, problem: TrajectoryProblem, state: Array, count: int, std: float, exponent: float
    ) -> Trajectory:
        """The best of `count` trajectories from `state` [n]: the last plan, executed with its own feedback, and others
        with noise of `std` half ranges, whose power falls as 1 / frequency^exponent.

        Where a deadline is near they are fewer. Raises PlanningError when none has a finite return, and OutOfTime.
        """
        noise = coloured_noise(self.random, exponent, count, self.config.horizon, self.spec.action.size)
        noise[0] = 0.0
        wanted = self._nominal.actions + noise * np.float32(std) * self.half_range
        # Where the robot is where it was to be, feedback changes nothing and the whole horizon is one call.
        error = state_difference(state, self._nominal.states[0], self.spec.state.angular)
        as_predicted = np.abs(self._gains @ error).max() < AS_PREDICTED * self.half_range.max()

        def evaluate(part: torch.Tensor) -> tuple[torch.Tensor, ...]:
            if as_predicted:
                rolled = problem.open_loop(state, part.numpy())
            else:
                rolled = problem.closed_loop(state, self._nominal.states, part.numpy(), self._gains)
            totals = torch.tensor([one.total for one in rolled], dtype=torch.float64)
            states, actions = (np.stack([getattr(one, name) for one in rolled]) for name in ("states", "actions"))
            return totals, torch.from_numpy(states), torch.from_numpy(actions)

        sequences = torch.from_numpy(wanted)
        if self.objective.divisible:
            name = "open_loop" if as_predicted else "closed_loop"
            share = None if count == 1 else SHARE_OF_STARTS
            rated = self._time.evaluate(evaluate, sequences, IndependentRows(), name=name, within=share)
        else:
            rated = evaluate(sequences)
        totals, states, actions = rated
        best = int(np.argmax(self._check_returns(totals.numpy(), state)))
        return Trajectory(states[best].numpy(), actions[best].numpy(), float(totals[best]))

    def _done(self) -> bool:
        return self._finished

    def _answer(self) -> Answer:
        nominal = self._nominal
        held = (nominal.actions <= self._lower) | (nominal.actions >= self._upper)
        return Answer(
            nominal.actions.astype(np.float32),
            nominal.total,
            (nominal.states, np.zeros_like(nominal.states)),
            np.where(held[..., None], 0.0, self._gains),
        )
