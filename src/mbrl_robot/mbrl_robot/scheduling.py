# SPDX-License-Identifier: Apache-2.0
"""What a process that ticks needs of the system: precedence over processes that only compute, and memory that stays."""

import ctypes
import os
import resource

# Flags of mlockall(2), the same on every processor that ROS 2 supports.
LOCK_CURRENT = 1
LOCK_FUTURE = 2
LOCK_ON_FAULT = 4


def take_precedence(priority: int, process: int | str = "self") -> bool:
    """Gives all threads of a process, this one or the one of an id, the policy SCHED_RR with `priority` (1 to 99).

    They then run as soon as they wake up, whatever else computes. Returns whether the system permits it: that takes
    root, CAP_SYS_NICE or an rtprio limit. Nothing changes where it does not.
    """
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(priority))
    except (AttributeError, OSError):
        return False
    return True


def lock_memory(only_used: bool = False) -> bool:
    """Brings all pages of this process into memory and keeps them there, as mlockall(2) does.

    A page that the system has dropped, since nobody used it for a while, is read from disk when it is needed again:
    tens of milliseconds, in which the thread stands still whatever its priority. Memory that is mapped later is locked,
    too, except under a limit (RLIMIT_MEMLOCK), where the allocation that goes beyond it would fail. Returns whether the
    system permits it: that takes root, CAP_IPC_LOCK or a memlock limit above what the process maps. Nothing changes
    where it does not. With `only_used`, pages that nobody has touched yet, as most of the 8 MB of each thread's stack,
    are not brought in: a fifth of the memory, for a process that has done before what it will have to do.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = limit == resource.RLIM_INFINITY or os.geteuid() == 0
    flags = LOCK_CURRENT | (LOCK_FUTURE if unlimited else 0) | (LOCK_ON_FAULT if only_used else 0)
    try:
        return ctypes.CDLL(None).mlockall(flags) == 0
    except (AttributeError, OSError):
        return False
