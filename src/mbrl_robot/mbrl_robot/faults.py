# SPDX-License-Identifier: Apache-2.0
"""Faults of a line between a backend and robot_node, on request and by chance, without ROS: seeded and repeatable."""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from mbrl_core.config import parameter

Message = TypeVar("Message")

# A YAML file takes nan and inf for numbers, so kinds have longer names.
CORRUPTIONS = ("not_a_number", "infinite", "too_short", "too_long")
VALUES = {"not_a_number": float("nan"), "infinite": float("inf")}
ANY = "any"


@dataclass(frozen=True)
class Faults:
    """What happens to messages in one direction; all of it may be set while the node runs."""

    drop: float = parameter(0.0, "Share of the messages that get lost; 1 is silence", minimum=0.0, maximum=1.0)
    delay: float = parameter(0.0, "Seconds that every message takes longer", minimum=0.0, maximum=60.0)
    jitter: float = parameter(
        0.0, "Up to so many seconds more, equally distributed; messages may overtake each other", minimum=0.0,
        maximum=60.0,
    )  # fmt: skip
    duplicate: float = parameter(0.0, "Share of the messages that come twice", minimum=0.0, maximum=1.0)
    reorder: float = parameter(
        0.0, "Share of the messages that wait until the next one has gone ahead", minimum=0.0, maximum=1.0
    )
    corrupt: float = parameter(0.0, "Share of the messages that are spoiled", minimum=0.0, maximum=1.0)
    corruption: str = parameter(
        ANY,
        "not_a_number, infinite: one number becomes that; too_short, too_long: one missing or too many; any of them",
        choices=(*CORRUPTIONS, ANY),
    )
    freeze: bool = parameter(
        False, "The numbers of the first message from now on come again and again, with the stamps of new ones"
    )


class FaultyLine(Generic[Message]):
    """A queue from which messages come late, twice, in another order, spoiled, or not at all.

    `spoil(message, kind, random)` returns a copy spoiled in one of CORRUPTIONS; `freeze(old, new)` a copy of `new` with
    the numbers of `old`. Every message takes the same draws from the random stream whatever faults are on, so that a
    fault that is switched on does not move those of another. Times in nanoseconds, on whichever clock the caller has.
    """

    def __init__(
        self,
        random: np.random.Generator,
        spoil: Callable[[Message, str, np.random.Generator], Message],
        freeze: Callable[[Message, Message], Message],
    ) -> None:
        self.faults = Faults()
        self.counts: Counter[str] = Counter()
        self._random = random
        self._spoil, self._freeze = spoil, freeze
        self._queue: list[tuple[int, int, Message]] = []
        self._number = itertools.count()
        self._held: list[Message] = []
        self._frozen: Message | None = None

    @property
    def next_ns(self) -> int | None:
        """When the next message is due; None when none is waiting."""
        return self._queue[0][0] if self._queue else None

    def put(self, message: Message, time_ns: int) -> None:
        """A message comes in."""
        faults = self.faults
        lost, twice, waits, spoiled, jitter = self._random.random(5)
        kind_seed = int(self._random.integers(2**63))
        self.counts["received"] += 1
        message = self._as_frozen(message)
        if lost < faults.drop:
            self.counts["dropped"] += 1
            return
        if spoiled < faults.corrupt:
            self.counts["corrupted"] += 1
            random = np.random.default_rng(kind_seed)
            kind = str(random.choice(CORRUPTIONS)) if faults.corruption == ANY else faults.corruption
            message = self._spoil(message, kind, random)
        due_ns = time_ns + round((faults.delay + jitter * faults.jitter) * 1e9)
        self.counts["delayed"] += due_ns > time_ns
        if waits < faults.reorder:
            self.counts["reordered"] += 1
            self._held.append(message)
            return
        self._enter(message, due_ns)
        if twice < faults.duplicate:
            self.counts["duplicated"] += 1
            self._enter(message, due_ns)
        held, self._held = self._held, []
        for earlier in held:
            self._enter(earlier, due_ns)

    def take(self, time_ns: int) -> list[Message]:
        """The messages that are due, in the order in which they come out."""
        due = []
        while self._queue and self._queue[0][0] <= time_ns:
            due.append(heapq.heappop(self._queue)[2])
        return due

    def _enter(self, message: Message, due_ns: int) -> None:
        heapq.heappush(self._queue, (due_ns, next(self._number), message))

    def _as_frozen(self, message: Message) -> Message:
        if not self.faults.freeze:
            self._frozen = None
            return message
        if self._frozen is None:
            self._frozen = message
            return message
        self.counts["frozen"] += 1
        return self._freeze(self._frozen, message)


def spoil_numbers(numbers: list[float], kind: str, random: np.random.Generator) -> list[float]:
    """A copy of `numbers` [n] spoiled in one of CORRUPTIONS; one that is empty can only become longer."""
    spoiled = list(numbers)
    if kind == "too_long" or not spoiled:
        return [*spoiled, 0.0]
    index = int(random.integers(len(spoiled)))
    if kind == "too_short":
        del spoiled[index]
    else:
        spoiled[index] = VALUES[kind]
    return spoiled
