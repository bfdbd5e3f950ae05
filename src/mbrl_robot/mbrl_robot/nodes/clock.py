# SPDX-License-Identifier: Apache-2.0
"""What robot_node needs of a control clock, whatever drives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from mbrl_core.messages import EndReason
from mbrl_core.specs import Array
from mbrl_msgs.srv import ResetBackend
from mbrl_robot.episode import EpisodeRequest

if TYPE_CHECKING:
    from mbrl_robot.nodes.robot_node import RobotNode


class ControlClock(ABC):
    """Drives the running episode of a node tick by tick."""

    def __init__(self, node: RobotNode) -> None:
        self.node = node
        self.period_ns = round(node.spec.period * 1e9)
        self.delay_ns = round(node.spec.delay * 1e9)
        # Enough for a planner to bridge the longest time that plans may be old.
        self.committed_rows = node.spec.max_open_loop_steps + 1

    @property
    @abstractmethod
    def next_step(self) -> int:
        """First step of the running episode that has got no action yet."""

    @property
    def state(self) -> Array | None:
        """State [state_size] of the robot now; None where it is unknown, or time stands still."""
        return None

    def resetting(self) -> None:  # noqa: B027 - only who sends commands by itself has to mind
        """The backend has just been asked to reset."""

    @abstractmethod
    def ready_to_reset(self) -> bool:
        """Whether the last episode has been digested by all that have to."""

    @abstractmethod
    def begin(
        self, reset: ResetBackend.Response, request: EpisodeRequest, controller: str, started: Callable[[], None]
    ) -> None:
        """Starts an episode on a backend that has just been reset; calls `started` when FIRST has been published."""

    @abstractmethod
    def cancel_begin(self) -> None:
        """Gives up a start that has not come to FIRST."""

    @abstractmethod
    def request_end(self, reason: EndReason) -> None:
        """Ends the running episode at the next tick."""

    @abstractmethod
    def plan_taken(self) -> None:
        """A plan has been taken or the selection has changed."""

    @abstractmethod
    def emergency_stop(self) -> None:
        """The emergency stop has just been latched."""
