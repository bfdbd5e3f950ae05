# SPDX-License-Identifier: Apache-2.0
"""A task of positions and velocities on a robot whose state holds more than that, or less."""

from typing import Any

import numpy as np

from mbrl_core.config import ConfigurationError
from mbrl_core.libraries import Batch, array_library
from mbrl_core.observation import joint_entries
from mbrl_core.obstacles import ChainPoint
from mbrl_core.specs import AGO, RobotSpec
from mbrl_core.task import Task


class ObservedTask(Task):
    """`task`, defined on positions and velocities of all joints, on the state of `spec`.

    Further entries are passed over. Where velocities are not seen, those of the last step stand for them: what the
    positions have changed since the observation before, over the control period. Goal, weights and all else are those
    of `task`. Raises ConfigurationError where the state has neither velocities nor a history.
    """

    def __init__(self, task: Task, spec: RobotSpec) -> None:
        positions, velocities, before = joint_entries(spec.state.names)
        if velocities is None and before is None:
            raise ConfigurationError(
                f"task {task.kind!r}: robot {spec.name!r} has states {', '.join(spec.state.names)}, expected velocities"
                " of all joints, or their positions one step ago"
            )
        for name, value in (
            ("task", task), ("kind", task.kind), ("_spec", spec),
            ("_positions", positions), ("_velocities", velocities), ("_before", before),
            ("goal", task.goal), ("parameters", task.parameters), ("weights", task.weights),
            ("version", task.version), ("obstacles", task.obstacles), ("content", task.content),
            ("state_size", spec.state.size), ("action_size", task.action_size),
            ("workspace_size", task.workspace_size),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    task: Task
    _spec: RobotSpec
    _positions: list[int]
    _velocities: list[int] | None
    _before: list[int] | None

    def _joints(self, state: Batch) -> Any:
        """State [..., n] -> positions and velocities [..., 2 joints]."""
        if self._velocities is not None:
            return state[..., self._positions + self._velocities]
        rates = state[..., self._before] / -self._spec.period
        if isinstance(state, np.ndarray):
            return np.concatenate([state[..., self._positions], rates], axis=-1)
        return array_library(state).cat([state[..., self._positions], rates], dim=-1)

    def check_robot(self, spec: RobotSpec) -> None:
        if spec.interface_hash != self._spec.interface_hash:
            raise ConfigurationError(
                f"task {self.kind!r}: made for states {', '.join(self._spec.state.names)}, got a robot with"
                f" {', '.join(spec.state.names)}"
            )

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        return self.task.reward(self._joints(state), action, self._joints(next_state))

    def terminated(self, state: Batch) -> Batch:
        return self.task.terminated(self._joints(state))

    def state_is_success(self, state: Batch) -> Batch:
        return self.task.state_is_success(self._joints(state))

    def chain(self, state: Batch) -> list[ChainPoint]:
        return self.task.chain(self._joints(state))


def plain_task(task: Task) -> Task:
    """What an `ObservedTask` is made of; another task itself."""
    return task.task if isinstance(task, ObservedTask) else task


def task_on(task: Task, spec: RobotSpec) -> Task:
    """The task on the states of a robot, checked: itself where it is defined on them, else as `ObservedTask`.

    Learned rewards are of the states that they were learned on. Raises ConfigurationError as `check_robot` does.
    """
    names = spec.state.names
    positions, velocities, _ = joint_entries(names)
    joints = len(positions)
    # Two positions of each joint are as many numbers as a position and a velocity.
    more = joints > 0 and velocities is not None and len(names) > 2 * joints
    seen_otherwise = more or any(AGO in name for name in names)
    if not seen_otherwise or task.learned or isinstance(task, ObservedTask):
        task.check_robot(spec)
        return task
    if (2 * joints, spec.action.size) != (task.state_size, task.action_size):
        raise ConfigurationError(
            f"task {task.kind!r}: robot {spec.name!r} has {joints} joints and {spec.action.size} actions, expected"
            f" {task.state_size // 2} and {task.action_size}"
        )
    return ObservedTask(task, spec)
