# SPDX-License-Identifier: Apache-2.0
"""The process in which DART simulates: the system's Python, which has dartpy, spoken to in frames over pipes."""

import contextlib
import json
import os
import selectors
import struct
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from mbrl_core.robot_description.dart import MISSING, SERVER
from mbrl_core.specs import SpecError
from mbrl_robot.simulation_interface import SimulationError

# As dart_server has them, which is a program of another Python and cannot be imported.
HEAD = struct.Struct("<IB")
CONFIGURE, RESET, ADVANCE = range(3)
WELL = 0
WITHOUT_DARTPY = 3  # exit status
LONGEST_ANSWER = 10.0  # s: far more than any answer takes on a machine that is merely busy


class DartProcess:
    """One DART, and the robot in it. It ends when this process does, however that ends.

    Raises SpecError where this Python or its dartpy is missing, or DART refuses what is configured.
    """

    def __init__(self, python: str, content: Mapping[str, Any]) -> None:
        try:
            # An environment's variables would lead another Python astray.
            self._process = subprocess.Popen(
                [python, "-I", str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, bufsize=0
            )
        except OSError:
            raise SpecError(MISSING.format(python=python)) from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        try:
            self.ask(CONFIGURE, json.dumps(content).encode())
        except SimulationError as error:
            if self._process.poll() == WITHOUT_DARTPY:
                raise SpecError(MISSING.format(python=python)) from None
            self.close()
            raise SpecError(str(error)) from None

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    def ask(self, kind: int, payload: bytes) -> bytes:
        """The answer to one frame. Raises SimulationError on a refusal, and when the process is gone or is silent."""
        try:
            frame = memoryview(HEAD.pack(len(payload), kind) + payload)
            while frame:
                frame = frame[os.write(self._input, frame) :]
        except OSError:
            raise self._gone() from None
        deadline = time.monotonic() + LONGEST_ANSWER
        size, status = HEAD.unpack(self._read(HEAD.size, deadline))
        answer = self._read(size, deadline)
        if status != WELL:
            raise SimulationError(answer.decode(errors="replace"))
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        content = b""
        while len(content) < size:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                # What it would answer later would be taken for the answer to something else.
                self._process.kill()
                self._process.wait()
                raise SimulationError(f"DART's process did not answer for {LONGEST_ANSWER:g} s and was ended; reset it")
            part = os.read(self._output, size - len(content))
            if not part:
                raise self._gone()
            content += part
        return content

    def _gone(self) -> SimulationError:
        self._process.wait()
        return SimulationError(f"DART's process ended with status {self._process.returncode}; reset starts another")

    def close(self) -> None:
        """Ends the process."""
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.kill()
        self._process.wait()
