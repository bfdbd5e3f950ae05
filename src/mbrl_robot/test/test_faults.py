# SPDX-License-Identifier: Apache-2.0
"""Faults of a line, one by one and together."""

import dataclasses
import math

import numpy as np
import pytest

from mbrl_robot.faults import ANY, CORRUPTIONS, VALUES, Faults, FaultyLine, spoil_numbers

INTERVAL_NS = 10_000_000
Numbers = list[float]


def line_of(seed: int, **faults: object) -> "FaultyLine[Numbers]":
    """A line whose messages are [number, content]; frozen ones keep the content."""
    line: FaultyLine[Numbers] = FaultyLine(
        np.random.default_rng(seed), spoil_numbers, lambda old, new: [new[0], *old[1:]]
    )
    line.faults = Faults(**faults)  # type: ignore[arg-type]
    return line


def passed(line: "FaultyLine[Numbers]", count: int = 400) -> list[Numbers]:
    """What comes out of the line when `count` messages go in, one every 10 ms, and it is emptied at the end."""
    out: list[Numbers] = []
    for index in range(count):
        line.put([float(index), index + 0.5], index * INTERVAL_NS)
        out += line.take(index * INTERVAL_NS)
    return out + line.take(10**18)


def test_without_faults_everything_passes_at_once() -> None:
    line = line_of(0)
    line.put([1.0, 2.0], 5)
    assert line.next_ns == 5 and line.take(5) == [[1.0, 2.0]] and line.next_ns is None
    assert passed(line) == [[float(index), index + 0.5] for index in range(400)]
    assert {kind: count for kind, count in line.counts.items() if count} == {"received": 401}


def test_loss_and_repetition_come_in_their_shares() -> None:
    line = line_of(1, drop=0.25, duplicate=0.5)
    out = [message[0] for message in passed(line)]
    assert len(set(out)) == 400 - line.counts["dropped"] and 60 < line.counts["dropped"] < 140
    assert len(out) - len(set(out)) == line.counts["duplicated"] > 100
    assert out == sorted(out)
    assert passed(line_of(1, drop=1.0)) == []


def test_delay_keeps_the_order_and_jitter_does_not() -> None:
    line = line_of(2, delay=0.1)
    line.put([0.0], 0)
    assert line.take(99_999_999) == [] and line.next_ns == 100_000_000 and line.take(100_000_000) == [[0.0]]
    numbers = [message[0] for message in passed(line_of(2, delay=0.1))]
    assert numbers == sorted(numbers)
    numbers = [message[0] for message in passed(line_of(2, jitter=0.05))]
    assert numbers != sorted(numbers) and sorted(numbers) == [float(index) for index in range(400)]


def test_reordered_messages_come_after_the_next() -> None:
    line = line_of(3, reorder=0.2)
    numbers = [message[0] for message in passed(line)]
    backwards = int((np.diff(numbers) < 0).sum())
    assert 0 < backwards <= line.counts["reordered"] and len(numbers) in (399, 400)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_corruption(kind: str) -> None:
    out = passed(line_of(4, corrupt=1.0, corruption=kind))
    for message in out:
        if kind in VALUES:
            assert len(message) == 2 and sum(not math.isfinite(value) for value in message) == 1
        else:
            assert len(message) == {"too_short": 1, "too_long": 3}[kind]


def test_any_corruption_is_each_of_them_sometimes() -> None:
    out = passed(line_of(5, corrupt=1.0, corruption=ANY))
    assert {1, 2, 3} == {len(message) for message in out}


def test_an_empty_message_can_be_spoiled() -> None:
    random = np.random.default_rng(0)
    assert all(len(spoil_numbers([], kind, random)) == 1 for kind in CORRUPTIONS)


def test_frozen_numbers_with_new_stamps_until_it_is_over() -> None:
    line = line_of(6, freeze=True)
    assert passed(line, 5) == [[float(index), 0.5] for index in range(5)]
    assert line.counts["frozen"] == 4
    line.faults = Faults()
    assert passed(line, 3) == [[float(index), index + 0.5] for index in range(3)]


def test_equal_seeds_give_equal_faults_and_one_fault_does_not_move_another() -> None:
    everything = {"drop": 0.2, "duplicate": 0.2, "reorder": 0.2, "corrupt": 0.2, "jitter": 0.03}
    # As text: nan is not equal to itself.
    assert str(passed(line_of(7, **everything))) == str(passed(line_of(7, **everything)))
    assert str(passed(line_of(7, **everything))) != str(passed(line_of(8, **everything)))
    alone = {message[0] for message in passed(line_of(7, drop=0.2))}
    together = {message[0] for message in passed(line_of(7, drop=0.2, duplicate=0.5, jitter=0.02))}
    assert alone == together


@pytest.mark.parametrize("seed", range(5))
def test_nothing_comes_out_early_or_from_nowhere(seed: int) -> None:
    random = np.random.default_rng(seed)
    line = line_of(seed)
    time_ns, inside = 0, 0
    for index in range(500):
        time_ns += int(random.exponential(INTERVAL_NS))
        if random.random() < 0.1:
            shares = {name: float(random.random()) for name in ("drop", "duplicate", "reorder", "corrupt")}
            line.faults = dataclasses.replace(Faults(delay=float(random.exponential(0.02))), **shares)
        line.put([float(index), 0.0], time_ns)
        inside += len(line.take(time_ns))
        assert line.next_ns is None or line.next_ns > time_ns
    inside += len(line.take(10**18))
    counts = line.counts
    assert 0 <= counts["received"] - counts["dropped"] + counts["duplicated"] - inside <= counts["reordered"]
