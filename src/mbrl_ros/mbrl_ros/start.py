# SPDX-License-Identifier: Apache-2.0
"""From an executable to its node's main function. Standard library only: what comes first must be there at once."""

import contextlib
import importlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED = 0  # as for a node that a signal ends later


def start(module: str) -> NoReturn:
    """Runs `main()` of a node's module, which returns the exit status, and ends the process with it.

    The imports of a node take a second or two. A signal then ends it as quietly as it does later, when `process.run`
    has taken over; what loading and unloading libraries would print in between, or cost, helps nobody.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    status = importlib.import_module(module).main()
    from mbrl_ros.process import has_left_the_graph  # loaded by now

    if not has_left_the_graph():
        sys.exit(status)
    # What is left to tear down holds nothing that anybody waits for, and takes most of a second where torch is loaded.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
