# SPDX-License-Identifier: Apache-2.0
"""A process that ends the nodes when their launcher has died without doing so.

It is run as a script. Its standard input is a pipe from the launcher: a line `+N` names a process group, `-N`
says that the group is gone. The pipe closes when the launcher ends, in whatever way; groups left then are
signalled until none is left. Standard library only, started without site-packages.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

# Seconds from the first signal, and the signal sent then. All of it fits into three seconds.
ESCALATION = ((0.0, signal.SIGINT), (1.2, signal.SIGTERM), (2.3, signal.SIGKILL))


def alive(groups: set[int]) -> set[int]:
    """The process groups that still have a process."""
    left = set()
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, 0)
            left.add(group)
    return left


def main() -> None:
    """Wait for the launcher's end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    begin = time.monotonic()
    steps = list(ESCALATION)
    while (groups := alive(groups)) and time.monotonic() - begin < 10.0:
        if steps and time.monotonic() - begin >= steps[0][0]:
            _, number = steps.pop(0)
            for group in groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, number)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
