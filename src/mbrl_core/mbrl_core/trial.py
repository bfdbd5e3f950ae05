# SPDX-License-Identifier: Apache-2.0
"""Offline trials: the algorithms of the graph in one process, for science where the graph is not the question."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mbrl_core.delay import commands_on_the_way, whole_and_fraction
from mbrl_core.messages import EndReason, Plan, StepType, TimeStep
from mbrl_core.random_streams import generator
from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import Task


class Backend(Protocol):
    """A simulated robot that is stepped."""

    def reset(self, start: np.random.Generator) -> Array:
        """Draws a start state; returns it, [state_size]."""

    def step(self, action: Array) -> Array:
        """Holds a normalised action [action_size] for one control period; returns the state [state_size]."""


Controller = Callable[[TimeStep], Plan]
"""Answers a time step by a plan whose row 0 is for that step."""

Observer = Callable[[TimeStep], object]
"""Sees every time step before the controller answers it: a learner, a recorder."""


@dataclass(frozen=True)
class Trial:
    """What happened: state [n + 1, state_size], action [n, action_size], reward [n]."""

    state: Array
    action: Array
    reward: Array
    end_reason: EndReason

    @property
    def total_return(self) -> float:
        """Sum of rewards."""
        return float(self.reward.sum())


def run_trial(
    backend: Backend,
    controller: Controller,
    task: Task,
    spec: RobotSpec,
    steps: int,
    episode: int = 1,
    seed: int = 0,
    observe: Observer | None = None,
    name: str = "controller",
) -> Trial:
    """Runs one episode of at most `steps` steps as lockstep does: observe, answer, execute.

    The start state is drawn from the stream (seed, episode, 0, "start"). Actions are limited as robot_node limits them.
    With a delay in `spec`, the backend is to be a robot with just that: actions in time steps and trials are what
    acted.
    Raises ValueError when the controller answers with a non-finite action.
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}, expected at least 1")
    lower, upper = np.array(spec.action.lower), np.array(spec.action.upper)
    nothing = np.full(spec.action.size, np.nan)
    on_the_way = [np.clip(np.zeros(spec.action.size), lower, upper)] * commands_on_the_way(spec)
    state = backend.reset(generator(seed, episode, 0, "start"))
    time_step = TimeStep(
        episode, 0, StepType.FIRST, state, nothing, action_valid=False, sent_actions=_rows(on_the_way, spec)
    )
    states: list[Array] = [state]
    actions: list[Array] = []
    rewards: list[float] = []
    while True:
        if observe is not None:
            observe(time_step)
        if time_step.step_type == StepType.LAST:
            return Trial(np.array(states), np.array(actions), np.array(rewards), time_step.end_reason)
        action = np.clip(np.asarray(controller(time_step).actions[0], dtype=np.float64), lower, upper)
        if not np.isfinite(action).all():
            raise ValueError(f"action of step {time_step.step}: got {action.tolist()}, expected finite numbers")
        next_state = backend.step(action)
        if on_the_way:
            _, fraction = whole_and_fraction(spec)
            on_the_way.append(action)
            action = fraction * on_the_way[0] + (1.0 - fraction) * on_the_way[1]
            del on_the_way[0]
        actions.append(action)
        rewards.append(float(task.reward(state, action, next_state)))
        states.append(next_state)
        step = time_step.step + 1
        end_reason = EndReason.NOT_ENDED
        if bool(task.terminated(next_state)):
            end_reason = EndReason.TERMINATED
        elif step == steps:
            end_reason = EndReason.TIME_LIMIT
        step_type = StepType.MID if end_reason == EndReason.NOT_ENDED else StepType.LAST
        state = next_state
        time_step = TimeStep(
            episode, step, step_type, state, action, end_reason=end_reason, controller=name,
            sent_actions=_rows(on_the_way, spec),
        )  # fmt: skip


def _rows(actions: list[Array], spec: RobotSpec) -> Array:
    return np.array(actions).reshape(-1, spec.action.size)


def random_controller(spec: RobotSpec, seed: int, hold: int = 1) -> Controller:
    """Uniform noise within the action limits, each draw held for `hold` steps, from the stream named "explore"."""
    if hold < 1:
        raise ValueError(f"hold: got {hold}, expected at least 1")

    def answer(time_step: TimeStep) -> Plan:
        random = generator(seed, time_step.episode, time_step.step - time_step.step % hold, "explore")
        return Plan(random.uniform(spec.action.lower, spec.action.upper)[None])

    return answer
