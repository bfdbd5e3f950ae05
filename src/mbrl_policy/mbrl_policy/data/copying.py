# SPDX-License-Identifier: Apache-2.0
"""Writes the messages of bags into other bags: bytes, times and quality of service as they were."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rosbags.interfaces import Connection, ConnectionExtRosbag2, Qos
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from mbrl_policy.bag_writer import BagWriter
from mbrl_ros.bag_reading import open_bag


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


def read_raw(path: str | Path) -> Iterator[tuple[Connection, int, bytes]]:
    """Yields (connection, time of reception in ns, content) of every message. Raises BagError."""
    with open_bag(path) as reader:
        yield from reader.messages()
