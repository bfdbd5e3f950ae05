# SPDX-License-Identifier: Apache-2.0
"""A line a step on the terminal, everything else in the log."""

from __future__ import annotations

import os
import shlex
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

    def __init__(self, places: Places) -> None:
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
        )
        try:
            return process.wait() == 0
        except BaseException:
            # Ctrl-C reaches the child as well; it must be gone before the lock is.
            process.terminate()
            process.wait()
            raise
