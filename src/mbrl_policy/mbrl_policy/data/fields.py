# SPDX-License-Identifier: Apache-2.0
"""Single numbers within serialised messages, read and replaced in place: every other byte stays as it was recorded.

Middleware and libraries do not agree on the padding behind empty sequences, so a message that is read whole and
written again by another library may differ in more than the number that was to be replaced.
"""

import struct
from collections.abc import Iterable
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from mbrl_ros.bag_reading import BagError

HEAD = 4  # bytes that say how the rest is encoded
FORMATS = {
    "bool": "?", "byte": "B", "char": "B", "uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I",
    "int32": "i", "uint64": "Q", "int64": "q", "float32": "f", "float64": "d",
}  # fmt: skip


class MessageFields:
    """The plain fields `names` of one message, as far as no sequence stands before them.

    `values` has those that the type has. Raises BagError on content that is too short for its type.
    """

    def __init__(self, content: bytes, message_type: str, typestore: Typestore, names: Iterable[str]) -> None:
        self.values: dict[str, Any] = {}
        self._content = content
        self._order = "<" if content[1:2] == b"\x01" else ">"
        self._places: dict[str, tuple[int, str]] = {}
        self._missing = {name for name, _ in typestore.fielddefs[message_type][1]} & set(names)
        try:
            self._walk(HEAD, message_type, typestore, True)
        except (struct.error, IndexError):
            raise BagError(f"a message of type {message_type} has {len(content)} bytes, expected more") from None

    def replaced(self, values: dict[str, Any]) -> bytes:
        """The message with other values of these fields."""
        content = bytearray(self._content)
        for name, value in values.items():
            place, form = self._places[name]
            struct.pack_into(form, content, place, value)
        return bytes(content)

    def _walk(self, place: int, message_type: str, typestore: Typestore, outermost: bool) -> int:
        for name, (kind, detail) in typestore.fielddefs[message_type][1]:
            if outermost and not self._missing:
                break
            if kind == Nodetype.NAME:
                place = self._walk(place, str(detail), typestore, False)
            elif kind == Nodetype.BASE and isinstance(detail, tuple) and detail[0] == "string":
                place += -(place - HEAD) % 4
                (length,) = struct.unpack_from(f"{self._order}I", self._content, place)
                place += 4 + length
            elif kind == Nodetype.BASE and isinstance(detail, tuple):
                form = f"{self._order}{FORMATS[str(detail[0])]}"
                size = struct.calcsize(form)
                place += -(place - HEAD) % size
                if outermost and name in self._missing:
                    (self.values[name],) = struct.unpack_from(form, self._content, place)
                    self._places[name] = (place, form)
                    self._missing.discard(name)
                place += size
            else:
                raise BagError(f"{message_type}: {sorted(self._missing)} stand behind {name!r}, expected them before")
        return place
