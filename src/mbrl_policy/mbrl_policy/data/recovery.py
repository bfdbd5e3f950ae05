# SPDX-License-Identifier: Apache-2.0
"""Finishes the bags of killed recorders, and saves what is whole in damaged ones."""

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import breakup_chunk
from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import TypesysError

from mbrl_policy.data.copying import CopyWriter
from mbrl_ros.bag_reading import METADATA, BagError

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEAD = 9  # bytes: operation code and length
Record: TypeAlias = Schema | Channel | Message


def recover(path: str | Path) -> int:
    """Finishes the bag of a killed recorder in place and returns the number of messages in it.

    Reads up to the first torn record, passes over chunks whose checksum says that they are damaged, writes a whole bag
    beside, and swaps the two. Raises BagError when there is nothing to recover from; the bag is then as it was.
    """
    path = Path(path)
    files = sorted(path.glob("*.mcap"))
    if len(files) != 1:
        raise BagError(f"{path}: expected one .mcap file, got {len(files)}")
    rewritten = path.with_name(f".{path.name}.recovering")
    shutil.rmtree(rewritten, ignore_errors=True)
    try:
        recorded = _rewrite(files[0], rewritten)
    except BaseException:
        shutil.rmtree(rewritten, ignore_errors=True)
        raise
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
    return recorded


def _rewrite(file: Path, folder: Path) -> int:
    schemas: dict[int, Schema] = {}
    connections: dict[int, Connection] = {}
    with open(file, "rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise BagError(f"{file}: expected an MCAP file, got other bytes at its beginning")
        writer = CopyWriter(folder)
        try:
            for record in _records(stream):
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel) and record.id not in connections:
                    connection = _connection(writer, record, schemas.get(record.schema_id))
                    if connection is not None:
                        connections[record.id] = connection
                elif isinstance(record, Message) and record.channel_id in connections:
                    writer.write(connections[record.channel_id], record.log_time, record.data)
        finally:
            writer.close()
    if not writer.recorded:
        raise BagError(f"{file}: expected messages to recover, got none")
    return writer.recorded


def _connection(writer: CopyWriter, channel: Channel, schema: Schema | None) -> Connection | None:
    if schema is None:  # it was in a chunk that is damaged
        return None
    try:
        qos = parse_qos(channel.metadata.get("offered_qos_profiles", "") or "[]")
        # The file does not have the hash of the type; metadata.yaml has, which is missing or not to be relied on.
        return writer.add_definition(channel.topic, schema.name, schema.data.decode(), "", qos)
    except (TypesysError, ReaderError, ValueError):
        return None


def _records(stream: BinaryIO) -> Iterator[Record]:
    """Whole and undamaged records, those in chunks as well, up to the torn end."""
    while len(head := stream.read(RECORD_HEAD)) == RECORD_HEAD:
        operation, length = head[0], int.from_bytes(head[1:], "little")
        if operation == Opcode.DATA_END:
            return
        # A torn length may be of any size: nothing of that size is asked for before it is known to be there.
        start = stream.tell()
        if stream.seek(0, 2) - start < length:
            return
        stream.seek(start)
        content = stream.read(length)
        try:
            records = _parsed(operation, content)
        except Exception:  # damaged bytes may make the parser fail in any way; the next record may be whole
            continue
        yield from records


def _parsed(operation: int, content: bytes) -> list[Record]:
    data = ReadDataStream(BytesIO(content))
    if operation == Opcode.SCHEMA:
        return [Schema.read(data)]
    if operation == Opcode.CHANNEL:
        return [Channel.read(data)]
    if operation == Opcode.MESSAGE:
        return [Message.read(data, len(content))]
    if operation == Opcode.CHUNK:
        records = breakup_chunk(Chunk.read(data), validate_crc=True)
        return [record for record in records if isinstance(record, Schema | Channel | Message)]
    return []
