# SPDX-License-Identifier: Apache-2.0
"""What robot_node may send to a real robot, and when: nothing before all checks have passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus

from mbrl_core.messages import EndReason
from mbrl_robot.executor import NOBODY, SAFE
from mbrl_robot.readiness import AT_START, LINK, PASSED, failures
from mbrl_ros import qos
from mbrl_ros.steady import now_ns

if TYPE_CHECKING:
    from mbrl_robot.nodes.robot_node import RobotNode

# hardware_node says five times a second how things are.
SILENCE_NS = 1_000_000_000
NOT_YET = "no command before all checks have passed; see readiness"
SILENT = "readiness: the node `hardware` says nothing; is it running?"


class ReadinessGate:
    """Shut, it lets no command out. It opens when every check passes at once.

    Where the line to the robot is lost (readiness.LINK), or hardware_node falls silent, the running episode ends with
    FAULT, the safe action for an unknown state is sent, since it may act for ever, and it shuts: a robot that comes
    back is not moved before all checks have passed again. Where another check fails the episode ends likewise, but the
    safe action goes on.
    """

    def __init__(self, node: RobotNode, required: bool) -> None:
        self._node = node
        self.required = required
        self.is_open = not required
        self._results: dict[str, str] = {}
        self._heard_ns = 0
        # Control periods in which something is still sent; None: for as long as it is open.
        self._periods_left: int | None = None
        if required:
            node.create_subscription(
                DiagnosticStatus, "readiness", self._take, qos.LATCHED, event_callbacks=qos.QUIET_SUBSCRIPTION
            )

    @property
    def missing(self) -> str:
        """Why no episode may start, in words; empty where one may."""
        if not self.required:
            return ""
        if now_ns() - self._heard_ns > SILENCE_NS:
            return SILENT
        # At rest it has to be before the first command; later that is for whoever serves reset_backend.
        return "; ".join(failures(self._results, AT_START if self.is_open else ()))

    @property
    def is_last_word(self) -> bool:
        """Whether what is sent now may act for ever: it must not depend on a state that will have been long ago."""
        return self._periods_left is not None

    def check(self, states_come: bool) -> None:
        """Called every control period; whether joint_states come."""
        if not (self.required and self.is_open):
            return
        if self._periods_left is not None:
            if self._node.episode is None:
                self._periods_left -= 1
            if self._periods_left < 0:
                self._shut()
        elif not states_come:
            self._lose("joint_states: stale")
        elif now_ns() - self._heard_ns > SILENCE_NS:
            self._lose(SILENT)

    def _take(self, message: DiagnosticStatus) -> None:
        self._heard_ns = now_ns()
        self._results = {item.key: item.value for item in message.values}
        if not self.is_open:
            self._say_why_not()
            if not failures(self._results) and self._results:
                self._open()
            return
        failing = failures(self._results, AT_START)
        if any(self._results.get(name, SILENT) != PASSED for name in LINK):
            self._lose("; ".join(failing))
        elif failing:
            self._fault("; ".join(failing))

    def _open(self) -> None:
        self.is_open = True
        self._node.control.begin()
        self._node.set_active(SAFE, "no episode is running")
        self._node.health.set("commands", "open")
        self._node.get_logger().info("all checks have passed: commands begin")

    def _lose(self, why: str) -> None:
        if self._periods_left is None:
            self._periods_left = 1
            self._fault(why)

    def _shut(self) -> None:
        self.is_open, self._periods_left = False, None
        self._say_why_not()
        self._node.get_logger().error("no more commands before all checks have passed again")

    def _say_why_not(self) -> None:
        """Nobody commands, on purpose: the watchdog has to know."""
        self._node.health.set("commands", "none")
        self._node.set_active(NOBODY, NOT_YET)

    def _fault(self, why: str) -> None:
        if self._node.episode is not None:
            self._node.health.refuse("readiness", f"readiness: {why}: the episode ends")
            self._node.clock.request_end(EndReason.FAULT)
        self._node.starts.fail(why)
