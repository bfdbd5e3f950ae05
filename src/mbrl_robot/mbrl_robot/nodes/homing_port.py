# SPDX-License-Identifier: Apache-2.0
"""Between episodes, while a reset is under way, robot_node executes what hardware_node wants done on the way home."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from std_msgs.msg import Float64MultiArray

from mbrl_core.specs import Array
from mbrl_robot.executor import SAFE
from mbrl_ros import qos
from mbrl_ros.steady import now_ns

if TYPE_CHECKING:
    from mbrl_robot.nodes.robot_node import RobotNode

# A command counts for so many control periods.
PERIODS = 2.5


class HomingPort:
    """Takes `homing` (std_msgs/Float64MultiArray, SI [action_size]); only while start_episode resets."""

    def __init__(self, node: RobotNode, required: bool) -> None:
        self._node = node
        self._scale = np.array(node.spec.action.scale)
        self._longest_ns = round(PERIODS * node.spec.period * 1e9)
        self._command: Array | None = None
        self._arrival_ns = 0
        if required:
            node.create_subscription(
                Float64MultiArray, "homing", self._take, qos.COMMAND, event_callbacks=qos.QUIET_SUBSCRIPTION
            )

    def action(self, time_ns: int) -> Array | None:
        """Normalised action [action_size] to send now, None where the safe action is due."""
        if self._command is None or time_ns - self._arrival_ns > self._longest_ns:
            return None
        if not self._node.starts.is_resetting or self._node.control.guard.emergency_stop:
            return None
        return self._command / self._scale

    def is_done(self) -> None:
        """The safe action serves: if that is news, it is said."""
        if self._command is not None:
            self._command = None
            stopped = self._node.control.guard.emergency_stop
            self._node.set_active(SAFE, "the emergency stop is latched" if stopped else "no episode is running")

    def _take(self, message: Float64MultiArray) -> None:
        command = np.array(message.data, dtype=np.float64)
        size = self._node.spec.action.size
        if command.shape != (size,) or not np.isfinite(command).all():
            self._node.health.refuse("homing", f"homing: {command.tolist()}, expected {size} finite numbers")
        elif not self._node.starts.is_resetting:
            self._node.health.refuse("homing/no_reset", "homing: no reset is under way, expected none outside of one")
        else:
            self._command, self._arrival_ns = command, now_ns()
