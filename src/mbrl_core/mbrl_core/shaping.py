# SPDX-License-Identifier: Apache-2.0
"""Potential-based shaping of any task (Ng, Harada and Russell 1999, "Policy invariance under reward transformations").

    r'(s, a, s') = r(s, a, s') + gamma phi(s') - phi(s)

Over H steps the discounted sum changes by gamma^H phi(s_H) - phi(s_0). Where episodes never end, or end in absorbing
states, whose potential is zero, that is a number that no action changes, and every policy stays as good compared with
the others as it was. A planner that looks H steps ahead is another case: gamma^H phi(s_H) does depend on what it does,
and acts as a guess of what is to come after the horizon. Planners of this suite sum rewards without discount, so that
for them gamma is 1.
"""

import math
from collections.abc import Callable

from mbrl_core.config import ConfigurationError
from mbrl_core.libraries import Batch, array_library
from mbrl_core.obstacles import ChainPoint
from mbrl_core.specs import RobotSpec
from mbrl_core.task import Task

Potential = Callable[[Batch], Batch]
"""phi of states [..., state_size] -> [...], for numpy and torch as a task's reward is."""


class ShapedTask(Task):
    """`task` with potential-based shaping; everything but the reward is that task's.

    A state that `task` ends an episode in is absorbing: its potential counts as zero. Lives in one process: it has no
    message, for a potential is any function. Raises ConfigurationError on a discount that is not in (0, 1].
    """

    kind = "shaped"

    def __init__(self, task: Task, potential: Potential, discount: float = 1.0) -> None:
        if not (math.isfinite(discount) and 0.0 < discount <= 1.0):
            raise ConfigurationError(f"shaping's discount: got {discount}, expected above 0 and at most 1")
        for name, value in (
            ("task", task), ("potential", potential), ("discount", discount),
            ("goal", task.goal), ("parameters", task.parameters), ("weights", task.weights),
            ("version", task.version), ("obstacles", task.obstacles), ("content", task.content),
            ("state_size", task.state_size), ("action_size", task.action_size), ("workspace_size", task.workspace_size),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    task: Task
    potential: Potential
    discount: float

    def check_robot(self, spec: RobotSpec) -> None:
        self.task.check_robot(spec)

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        return self.task.reward(state, action, next_state) + self.shaping(state, next_state)

    def shaping(self, state: Batch, next_state: Batch) -> Batch:
        """gamma phi(s') - phi(s), [...]."""
        return self.discount * self._of(next_state) - self._of(state)

    def _of(self, state: Batch) -> Batch:
        value = self.potential(state)
        return array_library(value).where(self.task.terminated(state), 0.0 * value, value)

    def terminated(self, state: Batch) -> Batch:
        return self.task.terminated(state)

    def state_is_success(self, state: Batch) -> Batch:
        return self.task.state_is_success(state)

    def chain(self, state: Batch) -> list[ChainPoint]:
        return self.task.chain(state)
