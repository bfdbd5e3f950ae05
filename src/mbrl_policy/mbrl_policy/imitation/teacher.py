# SPDX-License-Identifier: Apache-2.0
"""A planner that is asked what to do in the states of an episode."""

from dataclasses import dataclass

from mbrl_core.messages import TimeStep
from mbrl_core.specs import Array, state_difference
from mbrl_planner.controller import PredictiveController
from mbrl_planner.planner import Planner, PlanningError
from mbrl_policy.training import TrainingError


@dataclass(frozen=True)
class Advice:
    """action [m] within the limits, and gain [m, n], its derivative by the state; None where the planner has none."""

    action: Array
    gain: Array | None


class Teacher:
    """A planner as model predictive control, or with one plan an episode and its feedback (`replan` false)."""

    def __init__(self, planner: Planner, replan: bool = True) -> None:
        self.planner = planner
        self._controller = PredictiveController(planner, replan)

    def advice(self, time_step: TimeStep) -> Advice:
        """For the state of `time_step`. Raises TrainingError where no plan is found."""
        try:
            plan = self._controller.answer(time_step).plan
        except PlanningError as error:
            raise TrainingError(f"teacher: no plan at step {time_step.step}: {error}") from error
        action, limits = plan.actions[0], self.planner.spec.action
        if plan.gains is None or plan.predicted_states is None:
            return Advice(action, None)
        angular = self.planner.spec.state.angular
        action = action + plan.gains[0] @ state_difference(time_step.state, plan.predicted_states[0], angular)
        return Advice(action.clip(limits.lower, limits.upper), plan.gains[0])
