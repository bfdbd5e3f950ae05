# SPDX-License-Identifier: Apache-2.0
"""A line a step on the terminal, everything else in the log."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from .places import Places, SetupError


class Progress:
    """Runs the commands of set-up with their output in `.mbrl/setup.log`.

    On failure the log's last lines are shown and its place is named.
    """

    def __init__(self, places: Places, lock: int | None = None) -> None:
        """Args: lock: a descriptor that the commands keep open for as long as they run."""
        self._kept = () if lock is None else (lock,)
        self._places = places
        self._begin = time.monotonic()
        self._log: IO[str] | None = None

    def __enter__(self) -> Progress:
        self._places.state.mkdir(parents=True, exist_ok=True)
        # Open as long as the object is entered.
        self._log = open(self._places.log, "w", encoding="utf-8", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._log is not None
        if error is not None:
            self._log.write(f"\nended by {kind.__name__ if kind else 'error'}: {error}\n")
        self._log.close()

    def step(self, text: str) -> None:
        """Say what begins now."""
        elapsed = time.monotonic() - self._begin
        print(f"mbrl: [{elapsed:5.1f} s] {text}", file=sys.stderr, flush=True)
        assert self._log is not None
        self._log.write(f"\n== [{elapsed:.1f} s] {text}\n")

    def run(
        self,
        command: Sequence[str | os.PathLike[str]],
        environment: Mapping[str, str],
        directory: Path | None = None,
        purpose: str = "",
    ) -> None:
        """Run a command.

        Raises:
            SetupError: it failed; names the command, its last lines and the log.
        """
        if not self.try_run(command, environment, directory):
            last = "".join(self._places.log.read_text(errors="replace").splitlines(keepends=True)[-25:])
            raise SetupError(
                f"{purpose or Path(command[0]).name} failed. The last lines were:\n{last}\n"
                f"The whole log is {self._places.log}"
            )

    def try_run(
        self,
        command: Sequence[str | os.PathLike[str]],
        environment: Mapping[str, str],
        directory: Path | None = None,
    ) -> bool:
        """Run a command and say whether it succeeded."""
        assert self._log is not None
        self._log.write("$ " + shlex.join(str(word) for word in command) + "\n")
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=directory or self._places.root,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=self._kept,
            start_new_session=True,
        )
        try:
            return process.wait() == 0
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it has started: it must be gone before the lock is."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 2.0
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < deadline:
                process.poll()  # else the command itself stays in its group as a zombie
                os.killpg(process.pid, 0)
                time.sleep(0.01)
        except ProcessLookupError:
            break
    process.wait()
