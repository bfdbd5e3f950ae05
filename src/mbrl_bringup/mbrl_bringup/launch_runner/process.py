# SPDX-License-Identifier: Apache-2.0
"""One node's process: start, output, end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from .description import Node

_CHILD = Path(__file__).with_name("child.py")


class NodeProcess:
    """A node's process, with as many restarts as it is given.

    All methods are called from the one thread that supervises the launch: the kernel ties the death signal of
    `child.py` to the thread that made the process.
    """

    def __init__(self, node: Node, command: list[str], report: Callable[[str, str, bool], None]) -> None:
        """Args:
        command: the node's command line.
        report: called with label, a line of output without its end, and whether it came from standard error.
        """
        self.node = node
        self.restarts = 0
        self.exit_status: int | None = None
        self.restart_at: float | None = None
        self._command = command
        self._report = report
        self._process: subprocess.Popen[bytes] | None = None
        self._rest: dict[int, bytes] = {}

    @property
    def pid(self) -> int | None:
        """Process id, which is its group's as well; None before the start and after the end."""
        return None if self._process is None else self._process.pid

    def start(self, environment: Mapping[str, str]) -> None:
        """Start, or start again."""
        self.restart_at = None
        self.exit_status = None
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_CHILD), str(os.getpid()), *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, **self.node.environment},
            start_new_session=True,
        )
        for stream in self.streams():
            os.set_blocking(stream.fileno(), False)
            self._rest[stream.fileno()] = b""

    def streams(self) -> list[IO[bytes]]:
        """The pipes that are open, standard output first."""
        process = self._process
        if process is None:
            return []
        return [stream for stream in (process.stdout, process.stderr) if stream is not None and not stream.closed]

    def read(self, stream: IO[bytes]) -> bool:
        """Report what has come in whole lines. Returns False at the end of the stream, which is then closed."""
        assert self._process is not None
        is_error = stream is self._process.stderr
        try:
            data = os.read(stream.fileno(), 65536)
        except BlockingIOError:
            return True
        lines = (self._rest[stream.fileno()] + data).split(b"\n")
        self._rest[stream.fileno()] = lines.pop() if data else b""
        for line in lines:
            if data or line:
                self._report(self.node.label, line.decode(errors="replace").rstrip("\r"), is_error)
        if data:
            return True
        del self._rest[stream.fileno()]
        stream.close()
        return False

    def has_ended(self) -> bool:
        """Whether the process has ended. It is left to be collected, so that its id stays taken."""
        if self._process is None:
            return True
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def collect(self, kill_number: int) -> None:
        """Take the exit status of a process that has ended, and end what it may have left in its group."""
        process = self._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, kill_number)
        for stream in self.streams():
            while self.read(stream):
                # A grandchild may hold the pipe open for ever; what is in the pipe now is all that counts.
                if not _has_data(stream):
                    del self._rest[stream.fileno()]
                    stream.close()
                    break
        self.exit_status = process.wait()
        self._process = None

    def signal(self, number: int) -> None:
        """Signal the whole group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def schedule_restart(self) -> None:
        """Note that the process is to be started again after the node's delay."""
        self.restarts += 1
        self.restart_at = time.monotonic() + self.node.respawn_delay


def _has_data(stream: IO[bytes]) -> bool:
    import select

    return bool(select.select([stream], [], [], 0)[0])
