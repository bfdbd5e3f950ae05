# SPDX-License-Identifier: Apache-2.0
"""Parameters of nodes that stand in a control loop: how a process takes precedence over those that only compute."""

from typing import Any

from mbrl_core.config import parameter


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
