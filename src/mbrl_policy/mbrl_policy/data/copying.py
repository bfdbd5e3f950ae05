# SPDX-License-Identifier: Apache-2.0
"""Writes the messages of bags into other bags: bytes, times and quality of service as they were."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rosbags.interfaces import Connection, ConnectionExtRosbag2, Qos
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from mbrl_policy.bag_writer import BagWriter
from mbrl_ros.bag_reading import BagError, open_bag


class CopyWriter(BagWriter):
    """A bag of messages of any type, also of such as this suite does not know."""

    def add_definition(
        self, topic: str, message_type: str, definition: str, digest: str, qos: Sequence[Qos]
    ) -> Connection:
        """Announces a topic whose type is given by its text; one that is announced already is given back.

        An empty `digest` (the type's RIHS01 hash) is worked out. Raises TypesysError on a text that cannot be read.
        """
        for known in self._writer.connections:
            if (
                known.topic == topic
                and known.msgtype == message_type
                and known.ext == ConnectionExtRosbag2("cdr", list(qos))
            ):
                if digest and known.digest != digest:
                    raise BagError(f"topic {topic!r}: {message_type} is defined in two ways, expected one")
                return known
        return self._writer.add_connection(
            topic, message_type,
            msgdef=definition, rihs01=digest or _digest(message_type, definition), offered_qos_profiles=list(qos),
        )  # fmt: skip

    def add_copy(self, connection: Connection, topic: str | None = None) -> Connection:
        """Announces the topic of another bag's connection, as `topic` where that is given."""
        qos = connection.ext.offered_qos_profiles if isinstance(connection.ext, ConnectionExtRosbag2) else []
        definition, digest = connection.msgdef.data, connection.digest
        if not definition:  # bags of before ROS 2 Iron
            definition, _ = self._typestore.generate_msgdef(connection.msgtype, ros_version=2)
            digest = self._typestore.hash_rihs01(connection.msgtype)
        return self.add_definition(topic or connection.topic, connection.msgtype, definition, digest, qos)


def _digest(message_type: str, definition: str) -> str:
    typestore = get_typestore(Stores.EMPTY)
    typestore.register(get_types_from_msg(definition, message_type))
    return typestore.hash_rihs01(message_type)


def read_raw(path: str | Path) -> Iterator[tuple[Typestore, Connection, int, bytes]]:
    """Yields (types of the bag, connection, time of reception in ns, content) of every message. Raises BagError."""
    with open_bag(path) as reader:
        for connection, time_ns, content in reader.messages():
            yield reader.typestore, connection, time_ns, content


@contextmanager
def new_bag(path: str | Path) -> Iterator[CopyWriter]:
    """A bag to write, whole at the end or not there at all. Raises BagError where something is in its place."""
    path = Path(path)
    if path.exists():
        raise BagError(f"{path}: exists already, nothing is written over it")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = CopyWriter(path)
    try:
        yield writer
        writer.close()
    except BaseException:
        with suppress(Exception):  # closed already, or as full as the disk
            writer.close()
        shutil.rmtree(path, ignore_errors=True)
        raise
