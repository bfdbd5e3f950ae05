# SPDX-License-Identifier: Apache-2.0
"""Tasks: what the robot is rewarded for.

A reward is written once and works on numpy arrays and torch tensors of any leading shape: it takes single state
variables with `[..., i]` and combines them with functions that both libraries share.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mbrl_core.arm_task import ArmTip
from mbrl_core.config import ConfigurationError
from mbrl_core.generic_tasks import JointTarget, TipTarget
from mbrl_core.learned_reward import LearnedReward
from mbrl_core.libraries import Batch, array_library
from mbrl_core.obstacles import ORIGIN, ChainPoint, hanging_link, planar_link
from mbrl_core.reaching import Reaching
from mbrl_core.task import Task

__all__ = [
    "TASKS", "AcrobotTip", "ArmTip", "CartpoleTip", "JointTarget", "LearnedReward", "PendulumUpright", "ReacherTip",
    "Task", "TipTarget", "make_task", "task_file_of", "task_of_preset",
]  # fmt: skip


class CartpoleTip(Task):
    """Swing-up of the PETS cart-pole: exp(-|tip - goal|^2 / length^2) - w_action a^2.

    Chua et al. 2018, "Deep Reinforcement Learning in a Handful of Trials", appendix A.1. State: cart position x (m),
    pole angle (rad, 0 hanging), their velocities. The reward is that of the state that the action leads to.
    """

    kind = "cartpole_tip"
    state_size, action_size, workspace_size = 4, 1, 2
    default_goal = (0.0, 0.6)
    default_parameters = {"pole_length": 0.6}
    default_weights = {"action": 0.01}

    def _squared_distance(self, state: Batch) -> Batch:
        library = array_library(state)
        length = self.parameters["pole_length"]
        horizontal = state[..., 0] - length * library.sin(state[..., 1]) - self.goal[0]
        vertical = -length * library.cos(state[..., 1]) - self.goal[1]
        return horizontal * horizontal + vertical * vertical

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        library = array_library(next_state)
        closeness = library.exp(-self._squared_distance(next_state) / self.parameters["pole_length"] ** 2)
        return closeness - self.weights["action"] * action[..., 0] * action[..., 0]

    def state_is_success(self, state: Batch) -> Batch:
        return self._squared_distance(state) < (0.2 * self.parameters["pole_length"]) ** 2

    def chain(self, state: Batch) -> list[ChainPoint]:
        """Hinge and tip of the pole, horizontal and vertical as the goal."""
        cart = ChainPoint((state[..., 0], 0.0), (state[..., 2], 0.0))
        return [cart, hanging_link(cart, self.parameters["pole_length"], state[..., 1], state[..., 3])]


class PendulumUpright(Task):
    """Swing-up of a pendulum: -(w_angle (1 - cos(angle - goal)) + w_velocity velocity^2 + w_action a^2).

    State: angle (rad, 0 hanging), velocity (rad/s). Goal: angle (rad). The length (m) matters to obstacles only.
    """

    kind = "pendulum_upright"
    state_size, action_size, workspace_size = 2, 1, 2
    default_goal = (math.pi,)
    default_parameters = {"length": 0.5}
    default_weights = {"angle": 1.0, "velocity": 0.02, "action": 0.001}

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        library = array_library(next_state)
        height = 1.0 - library.cos(next_state[..., 0] - self.goal[0])
        velocity = next_state[..., 1]
        effort = action[..., 0] * action[..., 0]
        return -(
            self.weights["angle"] * height
            + self.weights["velocity"] * velocity * velocity
            + self.weights["action"] * effort
        )

    def state_is_success(self, state: Batch) -> Batch:
        library = array_library(state)
        within_angle = library.cos(state[..., 0] - self.goal[0]) > math.cos(0.2)
        return within_angle & (library.abs(state[..., 1]) < 0.5)

    def chain(self, state: Batch) -> list[ChainPoint]:
        """Pivot and tip, horizontal and vertical; the tip hangs below the pivot and moves left first."""
        return [ORIGIN, hanging_link(ORIGIN, self.parameters["length"], state[..., 0], state[..., 1])]


class AcrobotTip(Task):
    """Swing-up of an acrobot: height of the tip above the lowest point over the full range, less effort and speed.

    State: shoulder angle (rad, 0 hanging), elbow angle (rad, 0 straight), their velocities. Goal: tip height (m)
    above the shoulder.
    """

    kind = "acrobot_tip"
    state_size, action_size, workspace_size = 4, 1, 2
    default_goal = (2.0,)
    default_parameters = {"upper_length": 1.0, "lower_length": 1.0}
    default_weights = {"velocity": 0.002, "action": 0.001}

    def _height(self, state: Batch) -> Batch:
        library = array_library(state)
        upper, lower = self.parameters["upper_length"], self.parameters["lower_length"]
        return -upper * library.cos(state[..., 0]) - lower * library.cos(state[..., 0] + state[..., 1])

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        reach = self.parameters["upper_length"] + self.parameters["lower_length"]
        missing = (self._height(next_state) - self.goal[0]) / (2.0 * reach)
        speed = next_state[..., 2] * next_state[..., 2] + next_state[..., 3] * next_state[..., 3]
        effort = action[..., 0] * action[..., 0]
        return 1.0 - 4.0 * missing * missing - self.weights["velocity"] * speed - self.weights["action"] * effort

    def state_is_success(self, state: Batch) -> Batch:
        return self._height(state) > self.goal[0] - 0.2

    def chain(self, state: Batch) -> list[ChainPoint]:
        """Shoulder, elbow and tip, horizontal and vertical; they hang below and move left first."""
        upper, lower = self.parameters["upper_length"], self.parameters["lower_length"]
        elbow = hanging_link(ORIGIN, upper, state[..., 0], state[..., 2])
        tip = hanging_link(elbow, lower, state[..., 0] + state[..., 1], state[..., 2] + state[..., 3])
        return [ORIGIN, elbow, tip]


class ReacherTip(Reaching):
    """Planar two-link reacher: -w_distance |tip - goal| - w_close (1 - exp(-|tip - goal|^2 / width^2))
    - w_action |a|^2 - w_velocity |velocity|^2.

    State: joint angles (rad), their velocities (rad/s). Goal: tip position (m). The narrow second term makes the last
    centimetre worth something.
    """

    kind = "reacher_tip"
    state_size, action_size, workspace_size = 4, 2, 2
    default_goal = (0.1, 0.1)
    default_parameters = {"upper_length": 0.1, "lower_length": 0.11, "width": 0.02}
    default_weights = {"distance": 5.0, "close": 1.0, "velocity": 0.001, "action": 0.01}

    def tip(self, state: Batch) -> tuple[Batch, Batch]:
        """Tip coordinates (m), each [...]."""
        library = array_library(state)
        upper, lower = self.parameters["upper_length"], self.parameters["lower_length"]
        total = state[..., 0] + state[..., 1]
        horizontal = upper * library.cos(state[..., 0]) + lower * library.cos(total)
        vertical = upper * library.sin(state[..., 0]) + lower * library.sin(total)
        return horizontal, vertical

    def squared_distance(self, state: Batch) -> Batch:
        """|tip - goal|^2 in m^2, [...]."""
        horizontal, vertical = self.tip(state)
        return (horizontal - self.goal[0]) ** 2 + (vertical - self.goal[1]) ** 2

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        distance = self.distance_cost(self.squared_distance(next_state))
        effort = action[..., 0] * action[..., 0] + action[..., 1] * action[..., 1]
        speed = next_state[..., 2] * next_state[..., 2] + next_state[..., 3] * next_state[..., 3]
        return -(distance + self.weights["action"] * effort + self.weights["velocity"] * speed)

    def state_is_success(self, state: Batch) -> Batch:
        return self.squared_distance(state) < 0.01**2

    def chain(self, state: Batch) -> list[ChainPoint]:
        """Base, elbow and tip in the plane of the goal."""
        elbow = planar_link(ORIGIN, self.parameters["upper_length"], state[..., 0], state[..., 2])
        total, rate = state[..., 0] + state[..., 1], state[..., 2] + state[..., 3]
        return [ORIGIN, elbow, planar_link(elbow, self.parameters["lower_length"], total, rate)]


TASKS: dict[str, type[Task]] = {
    task.kind: task for task in (CartpoleTip, PendulumUpright, AcrobotTip, ReacherTip, ArmTip, TipTarget, JointTarget)
}


def make_task(
    kind: str,
    goal: tuple[float, ...] = (),
    parameters: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
    version: int = 1,
    obstacles: Iterable[float] = (),
    content: bytes = b"",
) -> Task:
    """Builds a task by kind: one of TASKS, or `learned` with its content. Raises ConfigurationError that lists the
    known kinds, or says what `Task` refuses.
    """
    kinds = {**TASKS, LearnedReward.kind: LearnedReward}
    if kind not in kinds:
        raise ConfigurationError(f"unknown task {kind!r}, expected one of: {', '.join(sorted(kinds))}")
    return kinds[kind](
        goal=tuple(goal),
        parameters=dict(parameters or {}),
        weights=dict(weights or {}),
        version=version,
        obstacles=obstacles,
        content=content,
    )


def task_file_of(robot_file: str | Path, task: str) -> Path:
    """The preset that a robot file calls its task: a name among the tasks of the same configuration (../tasks), or a
    path ending in .yaml, relative to the robot file."""
    folder = Path(robot_file).parent
    return folder / task if task.endswith(".yaml") else folder.parent / "tasks" / f"{task}.yaml"


def task_of_preset(preset: Mapping[str, Any]) -> Task:
    """The task of a `task` group of config/tasks (`{kind: reacher_tip, goal: [0.1, 0.1], ...}`, or `{kind: learned,
    file: PATH}`); other keys are for whoever draws goals. Raises ConfigurationError as `make_task` does, and when there
    is no such file.
    """
    content, file = b"", preset.get("file")
    if file is not None:
        try:
            content = Path(str(file)).expanduser().read_bytes()
        except OSError as error:
            raise ConfigurationError(f"task file: got {file!r}, expected a learned reward: {error}") from None
    return make_task(
        preset.get("kind", ""),
        preset.get("goal", ()),
        preset.get("parameters"),
        preset.get("weights"),
        obstacles=preset.get("obstacles", ()),
        content=content,
    )
