# SPDX-License-Identifier: Apache-2.0
"""What has to hold before a robot is commanded: the checks, without ROS. Each says in plain words what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mbrl_core.robot_description.limits import first_disagreement
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array

PASSED = "passed"
# The line to the robot itself. Where one of them fails, commands end; the others end an episode.
LINK = ("joint_states", "controller", "controller_active")
# Asked for before the first command and before an episode, not while one runs.
AT_START = ("position_limits", "rest", "joint_states_rate")
# A pendulum stands still at each end of its swing.
REST_TIME = 1.0  # s
# Joint states that have to come in one control period.
STATES_PER_PERIOD = 2.0
# A state may be measured a little beyond its limit: in units of the joint.
MEASURING_ERROR = 0.02


@dataclass(frozen=True)
class Observation:
    """What is there, at one moment. Rates in Hz, ages in s; None: nothing has come yet.

    `state` is [state_size]; `fastest` [joints] the largest speeds of the last REST_TIME, m/s or rad/s.
    """

    state: Array | None = None
    fastest: Array | None = None
    states_age: float = float("inf")
    states_rate: float = 0.0
    states_refused: str = ""
    description: str | None = None
    controllers: int = 0
    controller_state: str | None = None
    watchdog_state: str | None = None
    emergency_stops: int = 0
    others: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Demands:
    """What is asked for beyond the robot file."""

    controller: str = "effort_controller"
    manager: str = "controller_manager"
    states_timeout: float = 0.2
    rest_linear: float = 0.05
    rest_angular: float = 0.1


class Checks:
    """All checks of a robot."""

    def __init__(self, robot: Robot, demands: Demands) -> None:
        self._robot = robot
        self._demands = demands
        self._described: str | None = None
        self._disagreement = ""

    def results(self, observation: Observation) -> dict[str, str]:
        """By name, in order: PASSED, or in words what is missing."""
        found = {
            "joint_states": self._joint_states(observation),
            "limits": self._limits(observation),
            "controller": self._controller(observation),
            "controller_active": self._controller_active(observation),
            "watchdog": _watchdog(observation),
            "emergency_stop": _emergency_stop(observation),
            "commands": self._commands(observation),
            "position_limits": self._position_limits(observation),
            "rest": self._rest(observation),
            "joint_states_rate": self._rate(observation),
        }
        return {name: text or PASSED for name, text in found.items()}

    def _joint_states(self, seen: Observation) -> str:
        if seen.states_refused:
            return seen.states_refused
        if seen.state is None:
            return "joint_states: none has come; is joint_state_broadcaster active?"
        if seen.states_age > self._demands.states_timeout:
            return (
                f"joint_states: the newest is {seen.states_age:.2f} s old, expected at most"
                f" {self._demands.states_timeout:g} s"
            )
        return ""

    def _rate(self, seen: Observation) -> str:
        if seen.state is None:
            return ""
        slowest = STATES_PER_PERIOD / self._robot.spec.period
        # A rate is a median of few intervals.
        if seen.states_rate < 0.9 * slowest:
            return (
                f"joint_states: {seen.states_rate:.0f} a second, expected at least {slowest:.0f},"
                f" {STATES_PER_PERIOD:g} in a control period"
            )
        return ""

    def _limits(self, seen: Observation) -> str:
        if seen.description is None:
            return "robot_description: none has come; is robot_state_publisher running?"
        if seen.description != self._described:
            self._described = seen.description
            self._disagreement = first_disagreement(self._robot, seen.description)
        return self._disagreement

    def _controller(self, seen: Observation) -> str:
        if seen.controllers == 1:
            return ""
        name = self._demands.controller
        return (
            f"{self._robot.command_topic}: {seen.controllers} subscribers named {name}, expected 1, the controller that"
            " moves the robot"
        )

    def _controller_active(self, seen: Observation) -> str:
        name, manager = self._demands.controller, self._demands.manager
        if not manager or seen.controller_state == "active":
            return ""
        if seen.controller_state is None:
            return f"{name}: {manager} does not say on /diagnostics whether it is active"
        return f"{name}: {manager} says it is {seen.controller_state}, expected active"

    def _commands(self, seen: Observation) -> str:
        if not seen.others:
            return ""
        return f"{self._robot.command_topic}: {', '.join(seen.others)} publishes there as well, expected robot alone"

    def _position_limits(self, seen: Observation) -> str:
        if seen.state is None:
            return ""
        for joint, position in zip(self._robot.joints, seen.state, strict=False):
            low, high = joint.position_limits
            if not low - MEASURING_ERROR <= position <= high + MEASURING_ERROR:
                return f"joint {joint.name!r} is at {position:.3f}, expected {low:g} to {high:g}: move it back by hand"
        return ""

    def _rest(self, seen: Observation) -> str:
        if seen.fastest is None:
            return ""
        for joint, speed in zip(self._robot.joints, seen.fastest, strict=True):
            allowed = self._demands.rest_linear if joint.kind == "linear" else self._demands.rest_angular
            if not speed <= allowed:
                return (
                    f"joint {joint.name!r} has moved at {speed:.3f} in the last {REST_TIME:g} s, expected at most"
                    f" {allowed:g}: at rest"
                )
        return ""


def _watchdog(seen: Observation) -> str:
    # One that has tripped hands the robot over to whoever commands.
    if seen.watchdog_state in ("idle", "armed", "tripped"):
        return ""
    return "watchdog: it says nothing on /diagnostics; watchdog:=false is for simulation"


def _emergency_stop(seen: Observation) -> str:
    if seen.emergency_stops:
        return ""
    return "emergency_stop: nobody publishes it, so nobody could stop the robot; `./mbrl robot stop --wait` does"


def failures(results: Mapping[str, str], without: tuple[str, ...] = ()) -> list[str]:
    """What is missing, in words, in the order of the checks."""
    return [text for name, text in results.items() if text != PASSED and name not in without]


def rate_of(stamps_ns: list[int]) -> float:
    """Messages a second by the median of the times between consecutive stamps; 0 for fewer than two."""
    intervals = np.diff(np.array(stamps_ns, dtype=np.int64))
    intervals = intervals[intervals > 0]
    return 1e9 / float(np.median(intervals)) if len(intervals) else 0.0
