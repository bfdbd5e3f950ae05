# SPDX-License-Identifier: Apache-2.0
"""Reads an ONNX file by the protobuf wire format and computes it in numpy, by what the operators' standard says.

Nothing of it is shared with what writes the files.
"""

from typing import Any

import numpy as np

TYPES = {1: np.float32, 7: np.int64}


def fields(content: bytes) -> dict[int, list[Any]]:
    """Number -> values, integers or bytes, of one protobuf message."""
    found: dict[int, list[Any]] = {}
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = content[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(content):
        key = varint()
        if key & 7 == 0:
            value: Any = varint()
        else:
            assert key & 7 == 2
            size = varint()
            value = content[place : place + size]
            assert len(value) == size
            place += size
        found.setdefault(key >> 3, []).append(value)
    return found


def text(message: dict[int, list[Any]], number: int) -> str:
    return message[number][0].decode()


def tensor(content: bytes) -> tuple[str, np.ndarray]:
    message = fields(content)
    values = np.frombuffer(message[9][0], TYPES[message[2][0]]).reshape(message.get(1, []))
    return text(message, 8), values


class OnnxFile:
    """The graph of a file, its inputs and outputs (name -> (type, shape)) and its metadata."""

    def __init__(self, content: bytes) -> None:
        model = fields(content)
        self.operator_set = fields(model[8][0])[2][0]
        self.metadata = {text(entry, 1): text(entry, 2) for entry in map(fields, model[14])}
        graph = fields(model[7][0])
        self.constants = dict(map(tensor, graph[5]))
        self.nodes = [fields(node) for node in graph[1]]
        self.inputs, self.outputs = (
            {text(value, 1): signature(value) for value in map(fields, graph[number])} for number in (11, 12)
        )

    def run(self, **inputs: np.ndarray) -> np.ndarray:
        values: dict[str, np.ndarray] = {**self.constants, **inputs}
        for node in self.nodes:
            attributes = {text(entry, 1): entry[3][0] for entry in map(fields, node.get(5, []))}
            arguments = [values[name.decode()] for name in node[1]]
            result = OPERATORS[text(node, 4)](*arguments, **attributes)
            assert result.dtype == (np.int64 if text(node, 4) == "ArgMax" else np.float32)
            values[text(node, 2)] = result
        (output,) = self.outputs
        return values[output]


def signature(value: dict[int, list[Any]]) -> tuple[type, list[Any]]:
    tensor_type = fields(fields(value[2][0])[1][0])
    sizes = [fields(size) for size in fields(tensor_type[2][0])[1]]
    return TYPES[tensor_type[1][0]], [size[1][0] if 1 in size else text(size, 2) for size in sizes]


def gemm(a: np.ndarray, b: np.ndarray, c: np.ndarray, transB: int) -> np.ndarray:
    return a @ (b.T if transB else b) + c


OPERATORS = {
    "Add": np.add,
    "ArgMax": lambda data, axis, keepdims: np.argmax(data, axis, keepdims=bool(keepdims)),
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "Cos": np.cos,
    "Div": np.divide,
    "Exp": np.exp,
    "Floor": np.floor,
    "Gather": lambda data, indices, axis: np.take(data, indices, axis),
    "Gemm": gemm,
    "MatMul": np.matmul,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "ReduceSum": lambda data, axes, keepdims: data.sum(tuple(axes), keepdims=bool(keepdims)),
    "Sin": np.sin,
    "Squeeze": lambda data, axes: data.squeeze(tuple(axes)),
    "Sub": np.subtract,
    "Tanh": np.tanh,
    "Unsqueeze": lambda data, axes: np.expand_dims(data, tuple(axes)),
}
