# SPDX-License-Identifier: Apache-2.0
"""A line to a simulated robot that takes its time: every command acts so much later than it came."""

from collections import deque
from collections.abc import Iterator

from mbrl_core.specs import Array


class CommandDelay:
    """Queue of commands [action_size], each with the simulated time, in nanoseconds, at which it begins to act.

    What moves the simulation asks for the pieces of an interval and does what they say, in order. Raises ValueError on
    a delay below 0 and on commands that come back in time.
    """

    def __init__(self, delay_ns: int) -> None:
        if delay_ns < 0:
            raise ValueError(f"delay: got {delay_ns} ns, expected at least 0")
        self.delay_ns = delay_ns
        self._waiting: deque[tuple[int, Array]] = deque()

    def push(self, time_ns: int, command: Array) -> None:
        """Takes a command that came at `time_ns`."""
        due_ns = time_ns + self.delay_ns
        if self._waiting and due_ns < self._waiting[-1][0]:
            raise ValueError(f"command: came at {time_ns} ns, expected not before the last one")
        self._waiting.append((due_ns, command))

    def clear(self) -> None:
        """Forgets what is on its way."""
        self._waiting.clear()

    def pieces(self, begin_ns: int, end_ns: int) -> Iterator[tuple[Array | None, int]]:
        """What happens from `begin_ns` until before `end_ns`: a command to apply, or None, then so many nanoseconds to
        let pass, which may be none.
        """
        time_ns = begin_ns
        command: Array | None = None
        while self._waiting and self._waiting[0][0] < end_ns:
            due_ns, next_command = self._waiting.popleft()
            if due_ns > time_ns:
                yield command, due_ns - time_ns
                time_ns = due_ns
            # Of several that are due by now the newest acts, and all of them are counted.
            elif command is not None:
                yield command, 0
            command = next_command
        if end_ns > time_ns:
            yield command, end_ns - time_ns
