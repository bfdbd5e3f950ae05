# SPDX-License-Identifier: Apache-2.0
"""Reads bags: messages by topic, and of this suite's own bags the robot, its time steps and the transitions in them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from mbrl_core.dataset import Transition, TransitionAssembler, Transitions
from mbrl_core.messages import TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_ros.bag_types import make_typestore
from mbrl_ros.conversions import MessageError, spec_from_message, time_step_from_message

METADATA = "metadata.yaml"


class BagError(ValueError):
    """A bag cannot be read or lacks what is asked for. The text names the bag and what was expected."""


@contextmanager
def open_bag(path: str | Path) -> Iterator[AnyReader]:
    """The bag's reader. Raises BagError when the bag is missing, unfinished or damaged, also while it is read."""
    path = Path(path)
    if not path.exists():
        raise BagError(f"{path}: there is no such bag")
    if path.is_dir() and not (path / METADATA).exists():
        raise BagError(f"{path}: no {METADATA}: the recorder was killed; `./mbrl bag recover {path}` finishes the bag")
    try:
        with AnyReader([path], default_typestore=make_typestore()) as reader:
            yield reader
    except BagError:
        raise
    except Exception as error:  # a parser that meets damaged bytes may fail in any way
        what = str(error) or type(error).__name__
        raise BagError(f"{path}: {what}; `./mbrl bag recover` rewrites what is left of a damaged bag") from error


def connections_of(reader: AnyReader, path: str | Path, topic: str, namespace: str | None = None) -> list[Connection]:
    """Connections of the relative name `topic`, in `namespace` or, where that is None, in the only one that has it.

    Raises BagError where several namespaces have it: they are several robots.
    """
    found = [item for item in reader.connections if _is_named(item.topic, topic, namespace)]
    names = sorted({item.topic for item in found})
    if len(names) > 1:
        raise BagError(f"{path}: expected one topic {topic!r}, got {', '.join(names)}; choose one by its namespace")
    return found


def _is_named(recorded: str, topic: str, namespace: str | None) -> bool:
    if namespace is None:
        return f"/{recorded.lstrip('/')}".endswith(f"/{topic.lstrip('/')}")
    return recorded.strip("/") == f"{namespace.strip('/')}/{topic.lstrip('/')}".strip("/")


def read_stamped(
    path: str | Path, topics: Sequence[str], namespace: str | None = None, optional: Sequence[str] = ()
) -> Iterator[tuple[str, int, Any]]:
    """Yields (topic, time of reception in ns, message) in order of reception.

    `topics` are relative names, found in whatever namespace; those in `optional` may be missing. Raises BagError when
    the bag is unfinished, damaged, lacks one of the topics, or has it of several robots.
    """
    with open_bag(path) as reader:
        names: dict[str, str] = {}
        for topic in (*topics, *optional):
            found = connections_of(reader, path, topic, namespace)
            if not found and topic not in optional:
                recorded = ", ".join(sorted({item.topic for item in reader.connections})) or "none"
                raise BagError(f"{path}: expected a topic {topic!r}; recorded: {recorded}")
            names.update({item.topic: topic for item in found})
        wanted = [item for item in reader.connections if item.topic in names]
        # The library takes an empty list for all connections.
        for connection, time_ns, content in reader.messages(connections=wanted) if wanted else ():
            yield names[connection.topic], time_ns, reader.deserialize(content, connection.msgtype)


def read_messages(path: str | Path, topics: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yields (topic, message) in order of reception. `topics` are relative names, found in whatever namespace.

    Raises BagError when the bag is unfinished, damaged, or lacks one of the topics.
    """
    for topic, _, message in read_stamped(path, topics):
        yield topic, message


def read_spec(path: str | Path, namespace: str | None = None) -> RobotSpec:
    """The robot's interface. Raises BagError."""
    try:
        for _, _, message in read_stamped(path, ("robot_spec",), namespace):
            return spec_from_message(message)
    except MessageError as error:
        raise BagError(f"{path}: {error}") from None
    raise BagError(f"{path}: expected a robot_spec message, got none")


def read_time_steps(path: str | Path) -> list[TimeStep]:
    """All time steps of a bag, in order of reception. Raises BagError."""
    spec = read_spec(path)
    try:
        return [time_step_from_message(message, spec) for _, message in read_messages(path, ("time_step",))]
    except MessageError as error:
        raise BagError(f"{path}: {error}") from None


def read_transitions(path: str | Path) -> Transitions:
    """The transitions of a bag: what a learner that heard every message has learned from. Raises BagError."""
    spec = read_spec(path)
    # One for each episode: in a bag merged from several they may interleave.
    assemblers: dict[int, TransitionAssembler] = {}
    found = []
    for step in read_time_steps(path):
        transition = assemblers.setdefault(step.episode, TransitionAssembler()).add(step)
        if transition is not None:
            found.append(transition)
    return collect(found, spec)


def collect(items: Sequence[Transition], spec: RobotSpec) -> Transitions:
    """The same as a set."""
    rows = len(items)
    return Transitions(
        state=np.array([item.state for item in items]).reshape(rows, spec.state.size),
        action=np.array([item.action for item in items]).reshape(rows, spec.action.size),
        next_state=np.array([item.next_state for item in items]).reshape(rows, spec.state.size),
        episode=np.array([item.episode for item in items], dtype=np.int64),
        step=np.array([item.step for item in items], dtype=np.int64),
    )


def check_same_transitions(recorded: Transitions, used: Transitions) -> None:
    """Compares one by one, bit by bit. Raises BagError that names the first difference."""
    for index in range(min(len(recorded), len(used))):
        for name in ("episode", "step", "state", "action", "next_state"):
            first, second = getattr(recorded, name)[index], getattr(used, name)[index]
            if np.asarray(first).tobytes() != np.asarray(second).astype(np.asarray(first).dtype).tobytes():
                raise BagError(f"transition {index}: {name} is {first} in the bag, {second} in what was learned from")
    if len(recorded) != len(used):
        raise BagError(f"{len(recorded)} transitions in the bag, {len(used)} in what was learned from")
