# SPDX-License-Identifier: Apache-2.0
"""From time steps to plans: delay compensation, open-loop episodes, and the check before anything is sent."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_core.specs import Array
from mbrl_planner.planner import Planner, PlanningError
from mbrl_planner.robot_delay import Approach, approach


@dataclass(frozen=True)
class Reply:
    """`plan`, whose row 0 is for step `start_step`; `solved` is false when rows of an earlier plan are sent again."""

    plan: Plan
    start_step: int
    solved: bool


class PredictiveController:
    """Answers time steps by plans of a planner.

    With `replan` every time step is planned for anew (model predictive control). Without it, the first time step of an
    episode gets one plan as long as the planner's horizon, and later ones get what remains of it; when nothing
    remains, another one is made.
    """

    def __init__(self, planner: Planner, replan: bool = True) -> None:
        self.planner = planner
        self.replan = replan
        self._kept: tuple[int, int, Plan] | None = None  # episode, first step, plan

    def reset(self) -> None:
        """Forgets the warm start and the plan of the episode."""
        self.planner.reset()
        self._kept = None

    def end_episode(self) -> None:
        """An episode is over: the planner may learn from it, then all is reset. To be called as soon as that is known,
        since learning takes time; the first time step of the next episode does it too.
        """
        self.planner.end_episode()
        self.reset()

    def needs_solve(self, time_step: TimeStep) -> bool:
        """Whether the answer to `time_step` takes a new plan."""
        return self.replan or self._remaining(time_step) is None

    def answer(self, time_step: TimeStep, delay_steps: int = 0, deadline: float | None = None) -> Reply:
        """Plans for step `time_step.step + delay_steps` and the following ones.

        The state is first moved through what acts until then, as the model expects (Walsh et al. 2009, "Learning and
        planning in environments with delayed feedback"): through the committed actions of the steps before, on a robot
        with a delay through the commands on their way. Raises PlanningError when no valid plan was found; the warm
        start is then reset.
        """
        if time_step.step_type == StepType.FIRST:
            # The last time step of the episode before may have been lost.
            self.end_episode()
        if not self.replan:
            remaining = self._remaining(time_step)
            if remaining is not None:
                return remaining
        start_step = time_step.step + delay_steps
        try:
            way = self._approach(time_step, delay_steps)
            state = self._state_after_committed(time_step, delay_steps) if way is None else way.states[-1]
            plan = self.planner.plan(state, deadline, (time_step.episode, start_step))
            if way is not None:
                plan = way.as_sent(plan, delay_steps)
            check_plan(plan, self.planner.spec.action.lower, self.planner.spec.action.upper)
        except PlanningError:
            self.reset()
            raise
        if not self.replan:
            self._kept = (time_step.episode, start_step, plan)
        return Reply(plan, start_step, solved=True)

    def state_at_start(self, time_step: TimeStep, delay_steps: int) -> Array:
        """State [state_size] that is planned from: the one in which the first row begins to act.

        Raises PlanningError.
        """
        way = self._approach(time_step, delay_steps)
        return self._state_after_committed(time_step, delay_steps) if way is None else way.states[-1]

    def _approach(self, time_step: TimeStep, delay_steps: int) -> Approach | None:
        """The way there on a robot with a delay, else None."""
        planner = self.planner
        return approach(planner.objective, planner.spec, time_step, delay_steps) if planner.spec.delay else None

    def _state_after_committed(self, time_step: TimeStep, delay_steps: int) -> Array:
        if delay_steps == 0:
            return time_step.state
        action = self.planner.spec.action
        # Beyond what is committed the robot falls back on its safe action, for which zero is the best guess.
        rows = np.tile(np.clip(0.0, action.lower, action.upper), (delay_steps, 1))
        committed = time_step.committed_actions[:delay_steps]
        rows[: len(committed)] = committed
        state = self.planner.objective.advance(time_step.state, rows)
        if not np.isfinite(state).all():
            raise PlanningError(f"the state after {delay_steps} committed actions is predicted as {state.tolist()}")
        return state

    def _remaining(self, time_step: TimeStep) -> Reply | None:
        if self._kept is None or time_step.step_type == StepType.FIRST:
            return None
        episode, first, plan = self._kept
        skip = max(0, time_step.step - first)
        if episode != time_step.episode or skip >= len(plan.actions):
            return None
        return Reply(cut_plan(plan, skip, len(plan.actions)), first + skip, solved=False)


def cut_plan(plan: Plan, begin: int, end: int) -> Plan:
    """Rows `begin` to `end` (exclusive) of a plan; what a part of it returns is unknown."""
    if begin == 0 and end >= len(plan.actions):
        return plan
    states = slice(begin, end + 1)
    return dataclasses.replace(
        plan,
        actions=plan.actions[begin:end],
        predicted_states=None if plan.predicted_states is None else plan.predicted_states[states],
        predicted_std=None if plan.predicted_std is None else plan.predicted_std[states],
        gains=None if plan.gains is None else plan.gains[begin:end],
        predicted_return=math.nan,
    )


def check_plan(plan: Plan, lower: tuple[float, ...], upper: tuple[float, ...]) -> None:
    """Raises PlanningError when a plan is not fit to be sent: not finite, or an action beyond its limits."""
    for name in ("actions", "predicted_states", "predicted_std", "gains"):
        values = getattr(plan, name)
        if values is not None and not np.isfinite(values).all():
            raise PlanningError(f"plan: {name} has non-finite numbers")
    outside = (plan.actions < lower) | (plan.actions > upper)
    if outside.any():
        row = int(np.argwhere(outside)[0][0])
        raise PlanningError(
            f"plan: row {row} is {plan.actions[row].tolist()}, expected within {list(lower)} and {list(upper)}"
        )
