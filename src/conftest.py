# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a process that no earlier test's middleware lives on in."""

import gc
import os
from pathlib import Path

_TASKS = Path("/proc/self/task")
_settled = 0


def _threads() -> int:
    return len(os.listdir(_TASKS)) if _TASKS.exists() else 0


def pytest_runtest_logfinish() -> None:
    """Contexts leave the ROS graph when they are collected, which nodes under test put off for the sake of their
    deadlines. Dozens that stay find no new ones, and have been seen to hold each other's locks for ever.

    After a test, when nothing of it is held any more; where it left threads behind, for a collection takes a moment.
    """
    global _settled
    gc.unfreeze()
    gc.enable()
    if _threads() > _settled:
        gc.collect()
    _settled = _threads()
