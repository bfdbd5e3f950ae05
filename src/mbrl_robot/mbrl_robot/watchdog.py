# SPDX-License-Identifier: Apache-2.0
"""When somebody else has to send a robot's safe action since robot_node does not: the rules, without ROS.

Idle: nobody has commanded yet, or robot_node has said that it ends. Armed: commands come. Tripped: none came for
`timeout_periods` control periods. All times are steady, in nanoseconds, but for the source stamps, which are ROS system
time and only compared with each other.
"""

from enum import Enum

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.guard import Guard
from mbrl_robot.joint_guard import JointGuard
from mbrl_robot.safe_action import SafeController, rest_command

OVERTAKING_NS = 1_000_000_000


class Watch(Enum):
    """State of a watchdog."""

    IDLE = "idle"
    ARMED = "armed"
    TRIPPED = "tripped"


class CommandRefused(ValueError):
    """A command is refused. `reason` is a short kind, the text says what came and what was expected."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Watchdog:
    """Decides whether the watchdog commands, and what.

    Whoever else commands silences it at once: it sends nothing from the first foreign command on. The slew limit starts
    from the last command that anybody sent, so that taking over does not jerk the robot.
    """

    def __init__(self, robot: Robot, timeout_periods: float) -> None:
        period_ns = robot.spec.period * 1e9
        self.robot = robot
        self.state = Watch.IDLE
        self.trips = 0
        self.longest_silence_ns = 0
        self.timeout_ns = round(timeout_periods * period_ns)
        self._guard = Guard(robot.spec.action, JointGuard(robot))
        self._safe = SafeController(robot)
        self._scale = np.array(robot.spec.action.scale)
        self._last_ns = 0
        # Source stamp and steady time.
        self._farewell: tuple[int, int] | None = None

    @property
    def due_ns(self) -> int:
        """When the silence will have lasted too long, should nobody command."""
        return self._last_ns + self.timeout_ns

    def commanded(self, command: Array, time_ns: int, stamp_ns: int) -> None:
        """Somebody else has sent an SI command [action_size]: arms, or hands back.

        `time_ns` is when the silence begins that follows; `stamp_ns` the source stamp: a command from before a farewell
        does not arm. A command that no backend executes is no sign of life: raises CommandRefused (wrong_length,
        non_finite).
        """
        size = self.robot.spec.action.size
        if command.shape != (size,):
            raise CommandRefused("wrong_length", f"{len(command)} numbers, expected {size}")
        if not np.isfinite(command).all():
            raise CommandRefused("non_finite", f"{command.tolist()}, expected finite numbers")
        if self.state is Watch.IDLE and self._is_from_before_the_farewell(time_ns, stamp_ns):
            return
        if self.state is Watch.ARMED:
            self.longest_silence_ns = max(self.longest_silence_ns, time_ns - self._last_ns)
        self.state = Watch.ARMED
        self._last_ns = time_ns
        self._safe.leave()
        self._guard.follow(command / self._scale)

    def farewell(self, time_ns: int, stamp_ns: int) -> None:
        """robot_node ends and has sent its last command: its silence from `stamp_ns` on is no accident."""
        self._farewell = (stamp_ns, time_ns)
        self.state = Watch.IDLE

    def silence_ns(self, time_ns: int) -> int:
        """Time since the last command of somebody else; 0 while idle."""
        return 0 if self.state is Watch.IDLE else time_ns - self._last_ns

    def is_due(self, time_ns: int) -> bool:
        """Whether the silence has lasted too long, or has before."""
        return self.state is Watch.TRIPPED or (
            self.state is Watch.ARMED and self.silence_ns(time_ns) >= self.timeout_ns
        )

    def command(self, state: Array | None) -> Array:
        """Trips, if it has not yet, and returns the SI command [action_size] to send now and then once a period.

        `state` is [state_size], None where it is unknown: the safe action is zero then, or the last position sent.
        """
        if self.state is not Watch.TRIPPED:
            self.state = Watch.TRIPPED
            self.trips += 1
            elapsed = self.timeout_ns * 1e-9
        else:
            elapsed = self.robot.spec.period
        return self._guard.limit(self._safe.action(state), elapsed, state).action * self._scale

    def last_command(self, state: Array | None) -> Array | None:
        """What to send at the very end, SI [action_size], in `state` [state_size] or None; None: nothing."""
        return rest_command(self.robot, state, self._guard.last)

    def _is_from_before_the_farewell(self, time_ns: int, stamp_ns: int) -> bool:
        """Two topics may overtake each other, but not by much; stamps further apart say nothing, as time can be set."""
        if self._farewell is None or time_ns - self._farewell[1] > OVERTAKING_NS:
            return False
        return stamp_ns <= self._farewell[0]


class OwnCommands:
    """Tells one's own messages, which a subscription of the same topic gets as well, by their source stamps.

    A stamp is taken while `publish` runs. Somebody else's that falls into the same microseconds is missed; the next one
    of theirs is not.
    """

    # The middleware keeps fractions of a second in steps of 0.23 ns, and rounds.
    _ROUNDING_NS = 1000
    _REMEMBERED = 16

    def __init__(self) -> None:
        self._sent: list[tuple[int, int]] = []

    def sent(self, before_ns: int, after_ns: int) -> None:
        """Notes the system time before and after one `publish`."""
        self._sent = [*self._sent[1 - self._REMEMBERED :], (before_ns, after_ns)]

    def include(self, stamp_ns: int) -> bool:
        """Whether a message of source stamp `stamp_ns` is one's own."""
        slack = self._ROUNDING_NS
        return any(before - slack <= stamp_ns <= after + slack for before, after in self._sent)


class StopMemory:
    """Remembers a latched emergency stop for a robot_node that was killed and has started again: it knows of none."""

    def __init__(self) -> None:
        self._stopped = b""  # the process that has said so last
        self._told = False

    def say(self, robot: bytes, stopped: bool) -> bool | None:
        """What to publish on `emergency_stop` when the process `robot` says whether it is stopped; None: nothing.

        Only the process that was stopped can have been reset; from another one, `False` is ignorance.
        """
        if stopped:
            self._stopped = robot
            return None
        if self._stopped not in (b"", robot):
            told, self._told = self._told, True
            return None if told else True
        self._stopped = b""
        # What is latched would stop the next one, too.
        told, self._told = self._told, False
        return False if told else None
