# SPDX-License-Identifier: Apache-2.0
"""Rollouts: episodes of a robot for training, and the robot as those see it who train."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mbrl_core.dataset import Transitions
from mbrl_core.observed_task import task_on
from mbrl_core.policies import Policy
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot, start_state
from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import Task
from mbrl_core.trial import Controller


class RolloutError(RuntimeError):
    """The robot could not do a rollout: a start that it cannot reach, a fault, an action that is no number. The text
    says which. Another rollout may well succeed.
    """


@dataclass(frozen=True)
class Rollout:
    """One episode of T >= 1 steps.

    Attributes:
        states: [T + 1, n], SI units, angles as the robot gives them.
        wanted: [T, m], actions as the controller gave them, before any limit.
        actions: [T, m], actions as they were executed, normalised.
        rewards: [T].
        terminated: whether the task ended the episode; false when its time was over.
        start_index: which of a trainer's start conditions it began in; None when in none of them.
        first_step: step of `states[0]` in its episode; more than 0 where it is a part of one.
        intended: [T, m], what a teacher who was disturbed meant, within the limits; None where that is `actions`.

    Raises ValueError on shapes that do not fit and numbers that are not finite.
    """

    states: Array
    wanted: Array
    actions: Array
    rewards: Array
    terminated: bool = False
    start_index: int | None = None
    first_step: int = 0
    intended: Array | None = None

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or 0 in self.actions.shape:
            raise ValueError(f"rollout actions: got shape {self.actions.shape}, expected [T >= 1, action_size]")
        steps, width = len(self.actions), self.states.shape[-1] if self.states.ndim == 2 else 0
        shapes = {"states": (steps + 1, width), "wanted": self.actions.shape, "rewards": (steps,)}
        if self.intended is not None:
            shapes["intended"] = self.actions.shape
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise ValueError(f"rollout {name}: got shape {values.shape}, expected {shape} beside {steps} actions")
        for name in (*shapes, "actions"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"rollout {name}: has numbers that are not finite")

    def __len__(self) -> int:
        """T."""
        return len(self.actions)

    @property
    def total_return(self) -> float:
        """Sum of rewards."""
        return float(self.rewards.sum())


class TrainingRobot(ABC):
    """A robot that does rollouts, one after another: simulated in this process, or in a running graph.

    `task` is that of its rewards, `steps` the length of an episode. All that is random in a rollout is keyed by its
    `seed`, a number that a trainer uses once.
    """

    def __init__(self, robot: Robot, task: Task, steps: int | None = None) -> None:
        """`steps` is the robot file's `episode_steps` where None. Raises ConfigurationError, ValueError."""
        self.robot = robot
        self.task = task_on(task, robot.spec)
        self.steps = robot.episode_steps if steps is None else steps
        self._check_steps(self.steps)

    @property
    def spec(self) -> RobotSpec:
        """Of the robot."""
        return self.robot.spec

    @abstractmethod
    def rollout(
        self,
        policy: Policy,
        start: Array | None = None,
        steps: int | None = None,
        seed: int = 0,
        sampled: bool = False,
        start_index: int | None = None,
    ) -> Rollout:
        """An episode of `policy`: its mean action where `sampled` is false, else with its noise, `action_noise`.

        `start` is an exact state [n]; None draws one, `drawn_start`. `steps` is `self.steps` where None. The rollout
        is shorter when the task ends it. Raises RolloutError; ValueError on a policy of another interface or too
        short a horizon, and on a start or number of steps that is none.
        """

    @abstractmethod
    def rollout_controller(
        self,
        controller: Controller,
        start: Array | None = None,
        steps: int | None = None,
        seed: int = 0,
        start_index: int | None = None,
    ) -> Rollout:
        """An episode of any controller; row 0 of its plans is executed, and is `wanted`. The time steps' episode
        number is `seed` modulo 2^31. Raises as `rollout` does.
        """

    def drawn_start(self, seed: int) -> Array:
        """The state [n] that a rollout without a given start begins in: of the robot's start distribution, from the
        stream (seed, 0, 0, "start").
        """
        drawn = start_state(self.robot, generator(seed, 0, 0, "start"))
        observation = self.robot.observation
        # What sensors would say there is not known; an exact start takes positions and velocities from it alone.
        return observation.first(np.concatenate([drawn, np.zeros(observation.whole.size - len(drawn))]))

    def checked_start(self, start: Array | None, seed: int) -> Array:
        """`start`, or a drawn one where None. Raises ValueError on a start that is no state, RolloutError on one
        beyond the limits of the robot's states.
        """
        state = self.drawn_start(seed) if start is None else np.asarray(start, dtype=np.float64)
        limits = self.spec.state
        if state.shape != (limits.size,) or not np.isfinite(state).all():
            raise ValueError(f"start: got {state.tolist()}, expected {limits.size} finite numbers")
        for name, value, lower, upper in zip(limits.names, state, limits.lower, limits.upper, strict=True):
            if not lower <= value <= upper:
                raise RolloutError(
                    f"start: {name} {value:g} is out of reach of robot {self.spec.name!r},"
                    f" expected {lower:g} to {upper:g}"
                )
        return state

    def checked_steps(self, steps: int | None, policy: Policy | None = None) -> int:
        """`steps`, or `self.steps` where None. Raises ValueError on fewer than one, more than a policy's horizon, and
        on a policy of another interface.
        """
        wanted = self.steps if steps is None else steps
        self._check_steps(wanted)
        if policy is None:
            return wanted
        if policy.spec.interface_hash != self.spec.interface_hash:
            raise ValueError(
                f"policy: got one of interface {policy.spec.interface_hash[:12]!r}, expected"
                f" {self.spec.interface_hash[:12]!r} of robot {self.spec.name!r}"
            )
        if policy.horizon is not None and policy.horizon < wanted:
            raise ValueError(f"policy: has a horizon of {policy.horizon} steps, expected at least {wanted}")
        return wanted

    def _check_steps(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"steps: got {steps}, expected at least 1")


def action_noise(seed: int, steps: int, action_size: int) -> Array:
    """[steps, action_size] standard normal numbers from the stream (seed, 0, 0, "policy"): what `sampled` rollouts
    multiply a policy's `scale_tril` by, wherever the robot is.
    """
    return generator(seed, 0, 0, "policy").standard_normal((steps, action_size))


def transitions_of(rollouts: Iterable[Rollout]) -> Transitions:
    """All transitions of rollouts, which are numbered as episodes. Raises ValueError when there are none."""
    known = list(rollouts)
    if not known:
        raise ValueError("rollouts: got none, expected at least one")
    return Transitions(
        np.concatenate([rollout.states[:-1] for rollout in known]),
        np.concatenate([rollout.actions for rollout in known]),
        np.concatenate([rollout.states[1:] for rollout in known]),
        np.repeat(np.arange(len(known)), [len(rollout) for rollout in known]),
        np.concatenate([np.arange(len(rollout)) for rollout in known]),
    )
