# SPDX-License-Identifier: Apache-2.0
"""The optimism gap of the plans of this process, for diagnostics."""

from typing import Any

from mbrl_core.messages import EndReason, Plan, StepType, TimeStep
from mbrl_core.optimism import OptimismRecord
from mbrl_core.tasks import Task


class OptimismWatch:
    """Compares plans with the rewards of the time steps that follow them; see `OptimismRecord`.

    Plans of another episode than the time steps' newest, and those that a change of task overtakes, are dropped.
    """

    def __init__(self) -> None:
        self._record = OptimismRecord()
        self._previous: TimeStep | None = None
        self._episode = -1
        self._task: Task | None = None

    def add_plan(self, episode: int, start_step: int, plan: Plan, task: Task | None) -> None:
        """Takes a plan whose row 0 acts from `start_step` on, and the task that it is for."""
        self._enter(episode, task)
        self._record.add_plan(start_step, len(plan.actions), plan.predicted_return)

    def add_time_step(self, time_step: TimeStep, task: Task | None) -> None:
        """Takes the next time step, and the task in force."""
        self._enter(time_step.episode, task)
        previous, self._previous = self._previous, time_step
        if task is not None and previous is not None and previous.step == time_step.step - 1:
            reward = task.reward(previous.state, time_step.action, time_step.state)
            self._record.add_reward(previous.step, float(reward))
        if time_step.step_type == StepType.LAST:
            self._record.finish(terminated=time_step.end_reason == EndReason.TERMINATED)

    def figures(self) -> dict[str, Any]:
        """Names and values for diagnostics; the mean is that of the newest plans whose window is over."""
        if not self._record.newest:
            return {}
        return {"optimism_gap": self._record.mean_gap, "optimism_gap_newest": self._record.newest[-1].gap}

    def _enter(self, episode: int, task: Task | None) -> None:
        if episode != self._episode:
            self._record.start()
            self._episode, self._previous = episode, None
        elif task is not self._task:
            self._record.interrupt()
        self._task = task
