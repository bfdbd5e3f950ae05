# SPDX-License-Identifier: Apache-2.0
"""What the observer of the bench `faults` has heard: kept whole for judging, the newest of it for pacing."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PATIENCE = 60.0  # s
PREFIX = 24  # hexadecimal digits of a publisher's identity that are its process's
FIRST, LAST = 0, 2
FAULT = 4


class Stuck(RuntimeError):
    """Something that had to happen did not."""


@dataclass(frozen=True)
class Heard:
    """A message: who sent it (process), its number among that publisher's, when (ns since 1970), what."""

    process: str
    publisher: str
    number: int
    sent_ns: int
    content: list[Any]


class View:
    """Takes the observer's lines in one thread, answers in another."""

    def __init__(self, seconds_per_step: float) -> None:
        self.heard: dict[str, list[Heard]] = defaultdict(list)
        self.held_up: list[tuple[int, int]] = []  # when the machine was, begin and end, ns since 1970
        self.steady_offset_ns = 0  # of the time since 1970 from the steady clock
        self.precedence = False
        self.nodes: dict[str, str] = {}  # name of a process's node
        self._period = seconds_per_step
        self._lock = threading.Lock()

    def take(self, line: list[Any]) -> None:
        """Takes one of the observer's lines."""
        with self._lock:
            if line[0] == "i":
                self.precedence, self.steady_offset_ns = line[1], line[2]
            elif line[0] == "h":
                self.held_up.append((line[1], line[2]))
            else:
                kind, publisher, number, sent_ns, *content = line
                process = publisher[:PREFIX]
                self.heard[kind].append(Heard(process, publisher, number, sent_ns, content))
                if kind == "t":
                    self.nodes[process] = "robot"
                elif kind == "d":
                    self.nodes[process] = content[0][0]

    def count(self, kind: str) -> int:
        """How many messages of a kind there are."""
        with self._lock:
            return len(self.heard[kind])

    def since(self, kind: str, time_ns: int) -> list[Heard]:
        """Messages of a kind sent after a time, oldest first."""
        with self._lock:
            found = []
            for message in reversed(self.heard[kind]):
                if message.sent_ns <= time_ns:
                    break
                found.append(message)
            return found[::-1]

    def serving(self, controller: str, steps: int) -> bool:
        """Whether the newest `steps` time steps are of a running episode that this controller has served."""
        newest = self._newest("t", steps)
        return (
            len(newest) == steps
            and all(each.content[4] == controller and each.content[2] != LAST for each in newest)
            and time.time_ns() - newest[-1].sent_ns < 0.2e9 + 5e9 * self._period
        )

    def moving(self, steps: int = 5, after_ns: int = 0) -> bool:
        """Whether an episode runs and its newest `steps` time steps were sent after that time."""
        newest = self._newest("t", steps)
        return (
            len(newest) == steps
            and newest[0].sent_ns > after_ns
            and newest[-1].content[2] != LAST
            and time.time_ns() - newest[-1].sent_ns < 0.2e9 + 5e9 * self._period
        )

    @property
    def step(self) -> int:
        """The newest step."""
        newest = self._newest("t", 1)
        return int(newest[0].content[1]) if newest else 0

    @property
    def selected(self) -> str:
        """Who is selected, as robot_node said last."""
        newest = self._newest("s", 1)
        return str(newest[0].content[0]) if newest else ""

    def told(self, node: str, after_ns: int, unlike: str = "") -> bool:
        """Whether a node has published /diagnostics after that time, from another process than `unlike`."""
        return any(message.content[0][0] == node and message.process != unlike for message in self.since("d", after_ns))

    def figures_of(self, node: str) -> dict[str, str]:
        """The figures of a node's newest /diagnostics; none when it has not been heard of."""
        with self._lock:
            for message in reversed(self.heard["d"]):
                if message.content[0][0] == node:
                    return dict(message.content[0][3])
        return {}

    def said_last(self) -> list[str]:
        """The newest /diagnostics of every process of the last minute, oldest first, in words."""
        since = time.time_ns() - 60_000_000_000
        newest = {message.process: message for message in self.since("d", since)}
        texts = []
        for message in sorted(newest.values(), key=lambda message: message.sent_ns):
            name, level, text, values = message.content[0]
            age = (time.time_ns() - message.sent_ns) * 1e-9
            texts.append(f"{age:.1f} s ago {name} ({level}): {text} {values}")
        return texts

    def process(self, node: str) -> str:
        """Newest process of a node; empty when it has not been heard of."""
        with self._lock:
            for process, name in reversed(self.nodes.items()):
                if name == node:
                    return process
        return ""

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Waits until it holds. Raises Stuck."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Stuck(f"waited {seconds:g} s for {what}")
            time.sleep(0.02)

    def _newest(self, kind: str, count: int) -> list[Heard]:
        with self._lock:
            return self.heard[kind][-count:]
