# SPDX-License-Identifier: Apache-2.0
"""What a measurement of a robot's delay sends, and what it makes of the recordings; it has no ROS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.delay_estimation import DelayEstimate, NoDelayFound, Recording, estimate_delay

LONGEST_HOLD = 3  # control periods
# Below this share of a control period there is nothing to compensate.
WORTH_STATING = 0.05
# Half an interval is at least so long: what scheduling does to time stamps is in no residual.
LEAST_SPREAD = 0.0002  # s


class Excitation:
    """Actions [action_size] that move one joint at a time, from its own place and back to it.

    Doublets, a level for h periods, its opposite for 2 h, the level again for h, have no mean, and what integrates them
    once or twice comes to rest where it began; signs and h are random. `amplitude` is the share of half the action's
    range. Position commands are about the position in which the joint is found, others about zero.
    """

    def __init__(self, robot: Robot, actions: Sequence[int], amplitude: float, seconds: float, seed: int = 0) -> None:
        spec = robot.spec.action
        self._robot, self._actions = robot, list(actions)
        self._rows = math.ceil(seconds / robot.spec.period)
        self._lower, self._upper = np.array(spec.lower), np.array(spec.upper)
        self._half = 0.5 * amplitude * (self._upper - self._lower)
        random = generator(seed, 0, 0, "delay_probe")
        self._patterns = [_doublets(random, self._rows) for _ in self._actions]

    @property
    def turns(self) -> int:
        """How many actions have their turn."""
        return len(self._actions)

    @property
    def steps(self) -> int:
        """Control periods that all of it takes."""
        return self._rows * len(self._actions)

    def rows(self, step: int, count: int, start: Array) -> Array:
        """Actions [count, action_size] of steps `step`, `step` + 1, ... of an episode that began in state `start`."""
        spec = self._robot.spec.action
        at_rest = np.zeros(spec.size)
        for index, interface in enumerate(spec.interfaces):
            if interface == "position":
                at_rest[index] = start[self._robot.action_joints[index]] / spec.scale[index]
        rows = np.tile(at_rest, (count, 1))
        for row in range(count):
            turn, at = divmod(step + row, self._rows)
            if turn < len(self._actions):
                action = self._actions[turn]
                rows[row, action] += self._half[action] * self._patterns[turn][at]
        return np.clip(rows, self._lower, self._upper)

    def part(self, turn: int) -> tuple[int, int]:
        """First and last step (exclusive) of one action's turn."""
        return turn * self._rows, (turn + 1) * self._rows


def _doublets(random: np.random.Generator, rows: int) -> list[float]:
    levels: list[float] = []
    while len(levels) < rows:
        hold, sign = int(random.integers(1, LONGEST_HOLD + 1)), float(random.choice([-1.0, 1.0]))
        levels += [sign] * hold + [-sign] * (2 * hold) + [sign] * hold + [0.0] * int(random.integers(0, 3))
    return levels[:rows]


@dataclass(frozen=True)
class JointDelay:
    """What was found for one action: an estimate, or in `reason` why there is none."""

    joint: str
    estimate: DelayEstimate | None
    reason: str = ""


@dataclass(frozen=True)
class OverallDelay:
    """Of all joints, seconds, with its 95 % interval; `agree`: no joint's interval is apart from it."""

    delay: float
    lower: float
    upper: float
    agree: bool


def joint_delay(recording: Recording, robot: Robot, action: int, longest: float) -> JointDelay:
    """Delay of one action's joint."""
    name = robot.spec.action.names[action]
    try:
        return JointDelay(name, estimate_delay(recording, robot.action_joints[action], action, longest))
    except NoDelayFound as error:
        return JointDelay(name, None, str(error))


def overall_delay(joints: Sequence[JointDelay]) -> OverallDelay | None:
    """Mean of the joints' delays, each by the inverse of its variance; None without any."""
    found = [joint.estimate for joint in joints if joint.estimate is not None]
    if not found:
        return None
    spreads = np.array([max(0.25 * (item.upper - item.lower), LEAST_SPREAD) for item in found])
    weights = spreads**-2 / (spreads**-2).sum()
    delay = float(weights @ [item.delay for item in found])
    half = 2.0 * float((spreads**-2).sum() ** -0.5)
    apart = [abs(item.delay - delay) > 2.0 * spread + half for item, spread in zip(found, spreads, strict=True)]
    return OverallDelay(delay, max(delay - half, 0.0), delay + half, not any(apart))
