# SPDX-License-Identifier: Apache-2.0
"""Rollouts on a robot that is running elsewhere: what is answered to its time steps, and what is kept of them."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.messages import EndReason, Plan, StepType, TimeStep
from mbrl_core.policies import Policy
from mbrl_core.specs import Array, RobotSpec, state_difference
from mbrl_core.tasks import Task
from mbrl_core.trial import Controller
from mbrl_policy.policy_controller import Answer, PolicyController, PolicyFailed, state_rate
from mbrl_policy.training import Rollout, RolloutError

PLAN_ROWS = 2  # of a policy's plans in realtime: the second serves when the next plan comes late

Answerer = Callable[[TimeStep, int, int], Answer | None]
"""(time step, steps of delay, least number of rows) -> a plan and the step of its row 0; None where there is none."""


class Disturbed(RolloutError):
    """A rollout that is not what its controller would have done; another try may succeed."""


def policy_answers(policy: Policy, noise: Array | None) -> Answerer:
    """Plans of a policy with given standard normal numbers `noise` [steps, m] for its `scale_tril`, or without noise.

    For the very step of its state a row is the action itself, as `SimulatedRobot` computes it. For a step to come, a
    policy's action is that of `PolicyController`, to first order about a guess of the state, and its noise that of
    the guess. Raises RolloutError on actions that are not finite.
    """
    draws = None if noise is None else torch.from_numpy(noise).float()
    local = PolicyController(policy.fast(), policy.spec, PLAN_ROWS)

    def values(state: Array, step: int, draw: torch.Tensor | None) -> Array:
        with torch.inference_mode():
            mean, scale_tril = policy.gaussian(torch.from_numpy(np.array(state)).float(), step)
            wanted = mean if draw is None else mean + scale_tril @ draw
            return (policy.squashed(wanted) if policy.squash else wanted).double().numpy()

    def noises(plan: Plan, start: int) -> Array:
        assert draws is not None and plan.predicted_states is not None
        rows = range(min(len(plan.actions), len(draws) - start))
        kept = np.zeros_like(plan.actions)
        for row in rows:
            state = plan.predicted_states[row]
            kept[row] = values(state, start + row, draws[start + row]) - values(state, start + row, None)
        return kept

    def answer(time_step: TimeStep, delay_steps: int, least_rows: int) -> Answer | None:
        try:
            if delay_steps == 0 and least_rows == 1 and not policy.spec.delay:
                draw = None if draws is None else draws[time_step.step]
                answered: Answer | None = Answer(
                    Plan(values(time_step.state, time_step.step, draw)[None]), time_step.step
                )
            else:
                answered = local.answer(time_step, delay_steps, least_rows)
                if answered is not None and draws is not None:
                    plan, start = answered.plan, answered.start_step
                    noisy = plan.actions + noises(plan, start)
                    answered = Answer(Plan(noisy, plan.predicted_states, gains=plan.gains), start)
        except PolicyFailed as error:
            raise RolloutError(str(error)) from None
        if answered is not None and not np.isfinite(answered.plan.actions).all():
            raise RolloutError(f"policy: an action that is not finite in state {time_step.state.tolist()}")
        return answered

    return answer


def controller_answers(controller: Controller, spec: RobotSpec) -> Answerer:
    """Plans of a controller, whose row 0 is for the step of the state that it is asked in.

    For a step to come it is asked in a guess of the state there, which moves on as the state has moved since the time
    step before: it need not know of delays. A plan of the first time step, which has to last until the next can come,
    is made of one row for each step. Raises RolloutError on actions that are not finite.
    """
    before: TimeStep | None = None
    late = spec.delay / spec.period

    def planned(time_step: TimeStep) -> Array:
        actions = np.asarray(controller(time_step).actions, dtype=np.float64)
        if not np.isfinite(actions).all():
            raise RolloutError(f"actions of step {time_step.step}: got {actions.tolist()}, expected finite numbers")
        return actions

    def answer(time_step: TimeStep, delay_steps: int, least_rows: int) -> Answer | None:
        nonlocal before
        rate = state_rate(before, time_step, spec)
        before = time_step
        rows = np.empty((0, spec.action.size))
        while len(rows) < least_rows:
            ahead = delay_steps + len(rows)
            asked = time_step
            if ahead + late > 0:
                state = time_step.state + (ahead + late) * rate
                asked = dataclasses.replace(time_step, step=time_step.step + ahead, state=state)
                if ahead > 0 and time_step.step_type == StepType.FIRST:
                    asked = dataclasses.replace(asked, step_type=StepType.MID, action=np.zeros(spec.action.size))
            rows = np.concatenate([rows, planned(asked)])
        most = max(least_rows, spec.max_open_loop_steps + 1 - delay_steps)
        return Answer(Plan(rows[:most]), time_step.step + delay_steps)

    return answer


@dataclass(frozen=True)
class Tolerances:
    """What a rollout on a running robot may differ in.

    `position` and `velocity` of joints in SI units, between the start asked for and the first state: in real time
    nothing stands still until the first command. `disturbed` is the largest share of steps that another controller
    served or whose action was not one period long; one such step is always allowed.
    """

    position: float = 0.2
    velocity: float = 2.0
    disturbed: float = 0.05


class EpisodeRecord:
    """One episode, from its time steps and from the answers to them.

    Time steps are to be added in order; `terminated` says when the task ends the episode, after which the others do not
    count. Raises RolloutError where the episode is not the rollout that was asked for: `Disturbed` where it may be by
    chance.
    """

    def __init__(
        self, spec: RobotSpec, task: Task, controller: str, start: Array | None, tolerances: Tolerances
    ) -> None:
        """`start` [n] is compared with the first state; None takes any."""
        self._spec, self._task, self._controller = spec, task, controller
        self._start, self._tolerances = start, tolerances
        self._states: list[Array] = []
        self._actions: list[Array] = []
        self._wanted: list[Array] = []
        self._rewards: list[float] = []
        self._answers: dict[int, Answer] = {}
        self._disturbed = 0
        self._last: TimeStep | None = None
        self.terminated = False

    @property
    def begun(self) -> bool:
        """Whether the first time step has come."""
        return self._last is not None

    def answered(self, step: int, answer: Answer) -> None:
        """Notes the answer to time step `step`."""
        self._answers[step] = answer

    def add(self, time_step: TimeStep) -> None:
        """Takes the next time step."""
        before, self._last = self._last, time_step
        if self.terminated:
            return
        if before is None:
            self._begin(time_step)
            return
        if time_step.step != before.step + 1:
            raise Disturbed(
                f"episode {time_step.episode}: step {time_step.step} came after {before.step}, expected the next"
            )
        reward = float(self._task.reward(before.state, time_step.action, time_step.state))
        if not np.isfinite(reward):
            raise RolloutError(f"step {before.step} of episode {time_step.episode}: a reward of {reward}")
        wanted = None if time_step.controller != self._controller else self._row(before, time_step.row_age)
        self._disturbed += wanted is None or not time_step.action_valid
        self._states.append(time_step.state)
        self._actions.append(time_step.action)
        self._wanted.append(time_step.action if wanted is None else wanted)
        self._rewards.append(reward)
        self.terminated = bool(self._task.terminated(time_step.state))

    def rollout(self, start_index: int | None = None) -> Rollout:
        """The rollout, when the episode is over."""
        last = self._last
        if last is None or not self._actions:
            raise Disturbed("an episode without a single step")
        if not self.terminated and last.end_reason != EndReason.TIME_LIMIT:
            raise Disturbed(
                f"episode {last.episode} ended by {last.end_reason.name} at step {last.step}, expected TIME_LIMIT"
            )
        steps = len(self._actions)
        if self._disturbed > max(1.0, self._tolerances.disturbed * steps):
            raise Disturbed(
                f"episode {last.episode}: {self._disturbed} of {steps} steps were not those of {self._controller!r} or"
                f" not one period long, expected at most {self._tolerances.disturbed:.0%}"
            )
        return Rollout(
            np.array(self._states), np.array(self._wanted), np.array(self._actions), np.array(self._rewards),
            self.terminated, start_index,
        )  # fmt: skip

    def _begin(self, time_step: TimeStep) -> None:
        if time_step.step_type != StepType.FIRST:
            raise Disturbed(f"episode {time_step.episode}: began with step {time_step.step}, expected FIRST")
        self._states.append(time_step.state)
        if self._start is None:
            return
        error = np.abs(state_difference(time_step.state, self._start, self._spec.state.angular))
        # States are the positions of all joints, then their velocities.
        allowed = np.repeat([self._tolerances.position, self._tolerances.velocity], len(error) // 2)
        worst = int(np.argmax(error / allowed))
        if error[worst] > allowed[worst]:
            raise RolloutError(
                f"start: {self._spec.state.names[worst]} is {time_step.state[worst]:g}, expected"
                f" {self._start[worst]:g} within {allowed[worst]:g}: the robot cannot reach this start"
            )

    def _row(self, before: TimeStep, age: int) -> Array | None:
        """The action that was wanted at the step of `before`; None when its plan is not known."""
        answer = self._answers.get(before.step - age)
        if answer is None or not 0 <= before.step - answer.start_step < len(answer.plan.actions):
            return None
        plan, index = answer.plan, before.step - answer.start_step
        if plan.gains is None or plan.predicted_states is None:
            return plan.actions[index]
        error = state_difference(before.state, plan.predicted_states[index], self._spec.state.angular)
        return np.asarray(plan.actions[index] + plan.gains[index] @ error)
