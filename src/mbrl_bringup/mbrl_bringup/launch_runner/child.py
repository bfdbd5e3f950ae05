# SPDX-License-Identifier: Apache-2.0
"""Turns into a node's process: `child.py LAUNCHER_PID COMMAND ...`.

Run as a script between the launcher's fork and the node, where signal settings can be changed without the
hazards of doing so in a forked copy of a program with threads. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arrange to be told of the launcher's death, then become the command."""
    launcher, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != launcher:  # it died before the line above
        sys.exit(1)
    # What a launcher in the background ignores, or has blocked, its nodes would inherit and never be stopped by.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main()
