# SPDX-License-Identifier: Apache-2.0
"""Precedence over processes that only compute."""

import os


def take_precedence(priority: int) -> bool:
    """Gives all threads of this process the scheduling policy SCHED_RR with `priority` (1 to 99).

    They then run as soon as they wake up, whatever else computes. Returns whether the system permits it: that takes
    root, CAP_SYS_NICE or an rtprio limit. Nothing changes where it does not.
    """
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(priority))
    except (AttributeError, OSError):
        return False
    return True
