# SPDX-License-Identifier: Apache-2.0
"""Parameters of nodes that stand in a control loop: how a process takes precedence over those that only compute."""

import gc
from collections.abc import Sequence
from typing import Any

from mbrl_core.config import parameter
from mbrl_robot.scheduling import lock_memory, take_precedence
from mbrl_ros.health import Health


def priority_parameter(when: str = "") -> Any:
    """A field `scheduling_priority` of a configuration; `when` says in its description where it counts."""
    return parameter(
        1,
        f"{when}SCHED_RR priority of the process where the system permits one; 0 leaves it as it is",
        minimum=0,
        maximum=99,
        read_only=True,
    )


def memory_parameter(when: str = "") -> Any:
    """A field `lock_memory` of a configuration; `when` likewise."""
    begin = f"{when}keep" if when else "Keep"
    return parameter(True, f"{begin} the process in memory (mlockall) where the system permits it", read_only=True)


def settle(health: Health, priority: int, memory: bool, only_used: bool = False, processes: Sequence[int] = ()) -> None:
    """The last thing of a start: from here on the process ticks. `health` tells what the system has permitted.

    In this order, and after the first line that the process logs (tens of milliseconds, in which rclpy's logger looks
    through all modules for its caller): with precedence, the rest of a start would keep those waiting that tick
    already, as the very robot whose watchdog starts. What is alive now lives for ever: without it, a full garbage
    collection takes well below a millisecond. `processes` are others that compute for this one; what they start later
    inherits it.
    """
    gc.collect()
    gc.freeze()
    health.set("memory_locked", memory and lock_memory(only_used))
    own = bool(priority) and take_precedence(priority)
    health.set("scheduling_precedence", own and all(take_precedence(priority, process) for process in processes))
