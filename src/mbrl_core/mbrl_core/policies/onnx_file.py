# SPDX-License-Identifier: Apache-2.0
"""The little of the ONNX file format (github.com/onnx/onnx, onnx.proto3) that policies need. Knows no torch.

An ONNX file is one protobuf message; the exporters of torch need two more packages to write it. Field numbers are those
of onnx.proto3; IR version 8 and operator set 17 are of 2022, so that every runtime in use reads them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

IR_VERSION = 8
OPERATOR_SET = 17
_DATA_TYPES = {"float32": 1, "int64": 7}
_INTEGER, _INTEGERS = 2, 7  # AttributeProto.AttributeType
_BYTES = 2  # wire type of everything that has a length


@dataclass
class GraphBuilder:
    """Nodes and constants of a graph in the order in which they are computed."""

    nodes: list[bytes] = field(default_factory=list)
    constants: list[bytes] = field(default_factory=list)
    _count: int = 0

    def constant(self, values: np.ndarray) -> str:
        """Name of a constant: float32 or int64 of any shape."""
        name = self._new_name("constant")
        self.constants.append(_tensor(name, values))
        return name

    def add(self, operator: str, *inputs: str | np.ndarray, output: str = "", **attributes: int) -> str:
        """Name of the result of an operator; arrays among the inputs become constants. Attributes are integers."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        output = output or self._new_name(operator.lower())
        parts = [_text(1, name) for name in names] + [_text(2, output), _text(3, output), _text(4, operator)]
        for key, value in attributes.items():
            parts.append(_bytes(5, _text(1, key) + _number(3, value) + _number(20, _INTEGER)))
        self.nodes.append(b"".join(parts))
        return output

    def _new_name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


@dataclass(frozen=True)
class Value:
    """An input or output: its name, type (float32 or int64) and shape; a text in the shape is a free size."""

    name: str
    data_type: str
    shape: tuple[int | str, ...]


def model_bytes(
    builder: GraphBuilder,
    inputs: Iterable[Value],
    outputs: Iterable[Value],
    name: str,
    metadata: Mapping[str, str],
) -> bytes:
    """Content of the ONNX file."""
    graph = b"".join(
        [
            *(_bytes(1, node) for node in builder.nodes),
            _text(2, name),
            *(_bytes(5, constant) for constant in builder.constants),
            *(_bytes(11, _value(value)) for value in inputs),
            *(_bytes(12, _value(value)) for value in outputs),
        ]
    )
    return b"".join(
        [
            _number(1, IR_VERSION),
            _text(2, "mbrl_core"),
            _bytes(7, graph),
            _bytes(8, _text(1, "") + _number(2, OPERATOR_SET)),
            *(_bytes(14, _text(1, key) + _text(2, value)) for key, value in metadata.items()),
        ]
    )


def _value(value: Value) -> bytes:
    sizes = [_text(2, size) if isinstance(size, str) else _number(1, size) for size in value.shape]
    shape = b"".join(_bytes(1, size) for size in sizes)
    tensor = _number(1, _DATA_TYPES[value.data_type]) + _bytes(2, shape)
    return _text(1, value.name) + _bytes(2, _bytes(1, tensor))


def _tensor(name: str, values: np.ndarray) -> bytes:
    if values.dtype.name not in _DATA_TYPES:
        raise TypeError(f"ONNX constant: got {values.dtype}, expected one of {', '.join(_DATA_TYPES)}")
    content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    sizes = b"".join(_number(1, size) for size in values.shape)
    return sizes + _number(2, _DATA_TYPES[values.dtype.name]) + _text(8, name) + _bytes(9, content)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers as two's complement
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())
