# SPDX-License-Identifier: Apache-2.0
"""Reads bags of this suite: time steps, the transitions in them, and what a killed recorder has left behind."""

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.metadata import parse_qos

from mbrl_core.dataset import Transition, TransitionAssembler, Transitions
from mbrl_core.messages import TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_policy.bag_writer import BagWriter, make_typestore
from mbrl_ros.conversions import MessageError, spec_from_message, time_step_from_message

METADATA = "metadata.yaml"


class BagError(ValueError):
    """A bag cannot be read or lacks what is asked for. The text names the bag and what was expected."""


def read_messages(path: str | Path, topics: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yields (topic, message) in order of reception. `topics` are relative names, found in whatever namespace.

    Raises BagError when the bag is unfinished, damaged, or lacks one of the topics.
    """
    path = Path(path)
    if path.is_dir() and not (path / METADATA).exists():
        raise BagError(f"{path}: no {METADATA}: the recorder was killed; `recover` finishes the bag")
    try:
        with AnyReader([path], default_typestore=make_typestore()) as reader:
            names = {}
            for topic in topics:
                found = [item for item in reader.connections if item.topic.rpartition("/")[2] == topic]
                if not found:
                    recorded = ", ".join(sorted(item.topic for item in reader.connections)) or "none"
                    raise BagError(f"{path}: expected a topic {topic!r}; recorded: {recorded}")
                names.update({item.topic: topic for item in found})
            wanted = [item for item in reader.connections if item.topic in names]
            for connection, _, content in reader.messages(connections=wanted):
                yield names[connection.topic], reader.deserialize(content, connection.msgtype)
    except (AnyReaderError, ReaderError) as error:
        raise BagError(f"{path}: {error}") from None


def read_spec(path: str | Path) -> RobotSpec:
    """The robot's interface. Raises BagError."""
    for _, message in read_messages(path, ("robot_spec",)):
        return spec_from_message(message)
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
    assembler = TransitionAssembler()
    found = [transition for step in read_time_steps(path) if (transition := assembler.add(step)) is not None]
    return _collect(found, spec)


def _collect(items: list[Transition], spec: RobotSpec) -> Transitions:
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


def recover(path: str | Path) -> int:
    """Finishes the bag of a killed recorder in place and returns the number of messages in it.

    Reads up to the first torn record, writes a whole bag beside, and swaps the two. Raises BagError when there is
    nothing to recover from.
    """
    path = Path(path)
    files = sorted(path.glob("*.mcap"))
    if len(files) != 1:
        raise BagError(f"{path}: expected one .mcap file, got {len(files)}")
    rewritten = path.with_name(f".{path.name}.recovering")
    shutil.rmtree(rewritten, ignore_errors=True)
    writer = BagWriter(rewritten)
    try:
        with open(files[0], "rb") as stream:
            _copy(StreamReader(stream), writer)
    except (McapError, struct.error, ValueError, KeyError):
        pass  # the torn end, and all that lies behind it
    finally:
        writer.close()
    # The folder's name is in the file's name.
    (rewritten / f"{rewritten.name}.mcap").rename(rewritten / files[0].name)
    metadata = rewritten / METADATA
    metadata.write_text(
        metadata.read_text(encoding="utf-8").replace(f"{rewritten.name}.mcap", files[0].name), encoding="utf-8"
    )
    damaged = path.with_name(f".{path.name}.damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    path.rename(damaged)
    rewritten.rename(path)
    shutil.rmtree(damaged)
    return writer.recorded


def _copy(reader: StreamReader, writer: BagWriter) -> None:
    schemas: dict[int, Schema] = {}
    connections: dict[int, Connection] = {}
    for record in reader.records:
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel) and record.id not in connections:
            (qos,) = parse_qos(record.metadata["offered_qos_profiles"])
            connections[record.id] = writer.add_topic(record.topic, schemas[record.schema_id].name, qos)
        elif isinstance(record, Message):
            writer.write(connections[record.channel_id], record.log_time, record.data)
