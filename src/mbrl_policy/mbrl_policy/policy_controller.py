# SPDX-License-Identifier: Apache-2.0
"""From time steps to short plans of a policy, for the first step that the answer can reach."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.delay import whole_steps
from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_core.policies.fast import ChunkMemory, FastChunks, FastPolicy, FastTimeVarying
from mbrl_core.specs import Array, RobotSpec, state_difference


class PolicyFailed(ValueError):
    """A policy gives no action that could be sent; the text says for which state."""


@dataclass(frozen=True)
class Answer:
    """`plan`, whose row 0 is for step `start_step`."""

    plan: Plan
    start_step: int


def state_rate(before: TimeStep | None, time_step: TimeStep, spec: RobotSpec) -> Array:
    """Change of the state [state_size] in a step, as far as it is known: zero where `before`, the time step before, is
    not of the same episode or too old.
    """
    if (
        before is None
        or time_step.step_type == StepType.FIRST
        or before.episode != time_step.episode
        or not 0 < time_step.step - before.step <= spec.max_open_loop_steps
    ):
        return np.zeros(spec.state.size)
    return state_difference(time_step.state, before.state, spec.state.angular) / (time_step.step - before.step)


class PolicyController:
    """Answers time steps by plans of `rows` rows, with feedback.

    A policy has no model to say in which state its action will be executed, but an executor that knows. Each row is the
    policy to first order about a guess of the state at its step, u = π(x̂) + ∂π/∂x (x - x̂), so that the executor's own
    state compensates the delay: a linear policy loses nothing by it, another an error of second order in x - x̂. The
    guess moves on as the state has moved since the time step before. Rows after the first serve when the next answer
    comes late. Actions are those before clipping, which the robot's limits do after the feedback.

    A single row for the very step of its state needs none of that, and is the action itself.

    On a robot with a delay a row acts later than it is sent: the policy is evaluated in the guess of the state then,
    the feedback is of the state in which it is sent. Policies of chunks and along a nominal trajectory leave out as
    many of their rows as the delay has whole steps.

    A policy along a nominal trajectory is already of this form: its own rows are sent, as many as can be valid, and no
    fewer than `rows` while there are some.

    A policy of chunks says itself what to do in later steps: rows are the means of what the chunks of this episode say
    for them, without feedback.
    """

    def __init__(self, policy: FastPolicy, spec: RobotSpec, rows: int = 1) -> None:
        self.policy = policy
        self.rows = rows
        self._spec = spec
        self._angular = spec.state.angular
        self._late = spec.delay / spec.period
        self._late_steps = whole_steps(spec)
        self._before: TimeStep | None = None
        self._chunks = ChunkMemory(policy.ensembling) if isinstance(policy, FastChunks) else None

    def warm_up(self) -> None:
        """Loads what the first evaluations of a process load."""
        state = np.zeros(self._spec.state.size)
        for _ in range(10):
            self.policy.action(state, 0)
            self.policy.linearised(state, 0)
            if isinstance(self.policy, FastChunks):
                self.policy.chunk(state)

    def take_over(self, other: "PolicyController") -> None:
        """Goes on where another policy's controller stopped."""
        self._before = other._before

    def answer(self, time_step: TimeStep, delay_steps: int = 0, least_rows: int = 1) -> Answer | None:
        """Plan from step `time_step.step + delay_steps` on, of at least `least_rows` rows; None when that is beyond the
        policy's horizon.

        Raises PolicyFailed when the policy's numbers are not finite, or its chunks too short for the delay.
        """
        start = time_step.step + delay_steps
        before, self._before = self._before, time_step
        rate = state_rate(before, time_step, self._spec)
        rows = max(self.rows, least_rows)
        if self.policy.horizon is not None:
            rows = min(rows, self.policy.horizon - start - self._late_steps)
            if rows < 1:
                return None
        with np.errstate(all="ignore"):  # what overflows is told below
            if isinstance(self.policy, FastChunks):
                plan = self._chunk_rows(self.policy, before, time_step, start, rows)
            elif isinstance(self.policy, FastTimeVarying):
                plan = self._nominal_rows(self.policy, start, delay_steps)
            elif delay_steps == 0 and rows == 1 and not self._late:
                plan = Plan(self.policy.action(time_step.state, start)[None])
            else:
                plan = self._local_rows(time_step.state, rate, start, delay_steps, rows)
        for values in (plan.actions, plan.gains):
            if values is not None and not np.isfinite(values).all():
                raise PolicyFailed(f"policy: numbers that are not finite in state {time_step.state.tolist()}")
        return Answer(plan, start)

    def _local_rows(self, state: Array, rate: Array, start: int, delay_steps: int, rows: int) -> Plan:
        steps = delay_steps + np.arange(rows + 1)
        guesses = state + steps[:, None] * rate
        acting = guesses + self._late * rate
        first = start + self._late_steps
        laws = [self.policy.linearised(acting[row], first + row) for row in range(rows)]
        return Plan(
            actions=np.array([action for action, _ in laws]),
            predicted_states=guesses,
            gains=np.array([gain for _, gain in laws]),
        )

    def _chunk_rows(
        self, policy: FastChunks, before: TimeStep | None, time_step: TimeStep, start: int, rows: int
    ) -> Plan:
        assert self._chunks is not None
        if before is None or time_step.step_type == StepType.FIRST or before.episode != time_step.episode:
            self._chunks.clear()
        self._chunks.add(time_step.step, policy.chunk(time_step.state))
        actions = self._chunks.actions(start + self._late_steps, rows)
        if not len(actions):
            raise PolicyFailed(
                f"policy: its chunks end before step {start}, where the plan for the state of step {time_step.step}"
                " begins; expected a longer `chunk` or a shorter delay"
            )
        return Plan(actions)

    def _nominal_rows(self, policy: FastTimeVarying, start: int, delay_steps: int) -> Plan:
        rows = max(self.rows, self._spec.max_open_loop_steps + 1 - delay_steps)
        own = slice(start + self._late_steps, start + self._late_steps + rows)
        states = policy.states[start : start + rows + 1]
        states = states[: len(policy.actions[own]) + 1]
        if len(states) == len(policy.actions[own]):
            # No nominal state follows the last action, and none is needed.
            states = np.concatenate([states, states[-1:]])
        return Plan(actions=policy.actions[own], predicted_states=states, gains=policy.gains[own])
