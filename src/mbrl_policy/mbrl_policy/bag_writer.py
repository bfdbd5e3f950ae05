# SPDX-License-Identifier: Apache-2.0
"""Writes rosbag2 (MCAP) so that a process that is killed, or a disk that fills up, costs next to nothing.

Chunks are closed whenever `flush` is called and reach the file whole or not at all. A reserve file holds the space
that the index and metadata.yaml need, so a bag on a full disk can still be closed.
"""

import os
from pathlib import Path

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys.store import Typestore

from mbrl_ros.bag_types import make_typestore as make_typestore

CHUNK_BYTES = 64 * 1024
RESERVE_BYTES = 1024 * 1024
# What the index of one chunk takes at the end of the file, generously, and what everything else there takes.
INDEX_BYTES_PER_CHUNK = 512


class WholeWriteFile:
    """A file that grows only by whole commits: a failed commit leaves it as it was, and the content in memory."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._committed = 0
        self._pending = bytearray()

    def write(self, content: bytes | memoryview) -> int:
        """Appends to what the next commit writes."""
        self._pending += content
        return len(content)

    def tell(self) -> int:
        """Size of the file once everything is committed, bytes."""
        return self._committed + len(self._pending)

    def commit(self) -> None:
        """Writes what is pending. Raises OSError when it does not fit; the file then ends as it did before."""
        view = memoryview(self._pending)
        written = 0
        try:
            while written < len(view):
                written += self._file.write(view[written:]) or 0
        except OSError:
            self._file.truncate(self._committed)
            self._file.seek(self._committed)
            raise
        finally:
            view.release()
        self._committed += len(self._pending)
        self._pending.clear()

    def discard(self) -> None:
        """Forgets what is pending."""
        self._pending.clear()

    def close(self) -> None:
        """Commits and closes. Raises OSError like `commit`; the file is closed all the same."""
        try:
            self.commit()
        finally:
            self._file.close()


class SmallChunkStorage(McapWriter):
    """The MCAP storage of the rosbags library over a WholeWriteFile, with small chunks."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        # Its header of a few bytes is written again through the file that grows by whole commits.
        self.bio.close()
        header = self.path.read_bytes()
        self.path.unlink()
        self.file = WholeWriteFile(self.path)
        self.file.write(header)
        self.bio = self.file  # type: ignore[assignment]

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        """Appends a message to the open chunk."""
        super().write(connection, timestamp, data)
        if self.chunk.bio.tell() > CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Closes the open chunk and hands everything to the operating system. Raises OSError when it does not fit."""
        if self.chunk.msgs:
            self.close_chunk()
        self.file.commit()


class BagWriter:
    """One bag. `recorded` counts the messages that the operating system holds; raises OSError on a full disk.

    After an OSError call `close`: it gives the reserve back to the disk and finishes the bag with everything that was
    taken so far.
    """

    def __init__(self, path: str | Path, typestore: Typestore | None = None) -> None:
        self.path = Path(path)
        self.recorded = 0
        self._typestore = typestore or make_typestore()
        self._taken = 0
        self._last_time = 0
        self._writer = _SmallChunkWriter(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._reserve = self.path / ".reserve"
        self._reserved = 0
        self._storage.flush()
        self._grow_reserve()

    @property
    def _storage(self) -> SmallChunkStorage:
        storage = self._writer.storage
        assert isinstance(storage, SmallChunkStorage)
        return storage

    def add_topic(self, topic: str, message_type: str, qos: Qos) -> Connection:
        """Announces a topic with its type, for instance `mbrl_msgs/msg/TimeStep`."""
        return self._writer.add_connection(topic, message_type, typestore=self._typestore, offered_qos_profiles=[qos])

    def write(self, connection: Connection, time_ns: int, content: bytes) -> None:
        """Takes a message of raw CDR bytes, received at `time_ns`."""
        # Readers sort by time: a system clock that steps back must not change the order of reception.
        self._last_time = max(self._last_time, time_ns)
        self._taken += 1
        self._writer.write(connection, self._last_time, content)

    def flush(self) -> None:
        """Hands everything taken so far to the operating system, which keeps it when this process is killed."""
        self._storage.flush()
        self.recorded = self._taken
        if self._reserved < RESERVE_BYTES + INDEX_BYTES_PER_CHUNK * len(self._storage.chunks):
            self._grow_reserve()

    def _grow_reserve(self) -> None:
        wanted = 2 * (RESERVE_BYTES + INDEX_BYTES_PER_CHUNK * len(self._storage.chunks))
        with open(self._reserve, "ab") as stream:
            os.posix_fallocate(stream.fileno(), 0, wanted)
        self._reserved = wanted

    def close(self) -> None:
        """Writes index and metadata.yaml. Raises OSError when not even the reserve is enough for them.

        The bag is then unfinished, and `mbrl_policy.bags.recover` finishes it.
        """
        self._reserve.unlink(missing_ok=True)
        storage = self._storage
        try:
            self._writer.close()
            self.recorded = self._taken
        except OSError:
            storage.file.discard()
            self._writer.abort()
            raise


class _SmallChunkWriter(Writer):
    STORAGE_PLUGINS = {StoragePlugin.MCAP: SmallChunkStorage}
