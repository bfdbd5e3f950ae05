# SPDX-License-Identifier: Apache-2.0
"""Planning for a robot that acts later than it is told to: from where, and what the plan says of each step."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from mbrl_core.delay import between, commands_on_the_way, whole_and_fraction
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.specs import Array, RobotSpec
from mbrl_planner.planner import Objective, PlanningError


@dataclass(frozen=True)
class Approach:
    """The way to where the first row of a plan acts: `states` [n + 1, state_size] at `times` [n + 1], in control
    periods after the time step. The last one is where the plan begins.
    """

    spec: RobotSpec
    times: Array
    states: Array

    def as_sent(self, plan: Plan, delay_steps: int) -> Plan:
        """The plan with what it predicts moved to the steps at which its rows are sent.

        The planner's own states are those in which its rows begin to act, the robot's delay after they are sent.
        Whoever executes row i measures the state when he sends it, so feedback needs the state predicted for then;
        before the plan's beginning that is one of the approach, which has no spread.
        """
        if plan.predicted_states is None:
            return plan
        rows = len(plan.predicted_states)
        times = np.concatenate([self.times, self.times[-1] + np.arange(1, rows)])
        states = np.concatenate([self.states, plan.predicted_states[1:]])
        wanted = delay_steps + np.arange(rows)
        predicted = np.array([_state_at(time, times, states, self.spec) for time in wanted.tolist()])
        spread = plan.predicted_std
        if spread is not None:
            before = np.zeros((len(self.times) - 1, spread.shape[1]))
            every = np.concatenate([before, spread])
            spread = np.array([np.interp(wanted, times, column) for column in every.T]).T
        return dataclasses.replace(plan, predicted_states=predicted, predicted_std=spread)


def approach(objective: Objective, spec: RobotSpec, time_step: TimeStep, delay_steps: int) -> Approach:
    """From the state of `time_step` through the commands that act before that of step `time_step.step` + `delay_steps`.

    Each of them acts for a whole period, except that the one acting at the time step does so only for the fraction of
    the delay: a state on the way there is interpolated. So nothing is taken for the mean of two commands. Raises
    PlanningError where the way is not finite.
    """
    _, fraction = whole_and_fraction(spec)
    action = spec.action
    # Beyond what is known the robot falls back on its safe action, for which zero is the best guess.
    rows = np.tile(np.clip(0.0, action.lower, action.upper), (commands_on_the_way(spec) + delay_steps, 1))
    known = time_step.sent_actions[: len(rows)]
    rows[: len(known)] = known
    times, states = [0.0], [time_step.state]
    if fraction:
        after = objective.advance(time_step.state, rows[:1])
        times.append(fraction)
        states.append(between(time_step.state, after, fraction, spec.period, spec))
    for row in rows[1:]:
        times.append(times[-1] + 1.0)
        states.append(objective.advance(states[-1], row[None]))
    if not np.isfinite(states).all():
        raise PlanningError(
            f"the state in which the command of step {time_step.step + delay_steps} acts is predicted as"
            f" {states[-1].tolist()}"
        )
    return Approach(spec, np.array(times), np.array(states))


def _state_at(time: float, times: Array, states: Array, spec: RobotSpec) -> Array:
    index = min(int(np.searchsorted(times, time, side="right")) - 1, len(times) - 2)
    apart = times[index + 1] - times[index]
    share = (time - times[index]) / apart
    return between(states[index], states[index + 1], share, apart * spec.period, spec)
