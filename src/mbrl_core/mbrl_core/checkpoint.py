# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: arrays as safetensors, everything else as JSON, written atomically."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

FORMAT = "mbrl_checkpoint"
FORMAT_VERSION = 1
_KEY = "mbrl"


class CheckpointError(ValueError):
    """A checkpoint is damaged, cut short, or of another kind. The text names the file."""


def encode_arrays(arrays: Mapping[str, np.ndarray], information: Mapping[str, Any] | None = None) -> bytes:
    """Safetensors bytes of arrays, with a JSON object in the header."""
    metadata = {_KEY: json.dumps(dict(information or {}), sort_keys=True)}
    return save({name: np.ascontiguousarray(value) for name, value in arrays.items()}, metadata=metadata)


def decode_arrays(content: bytes, source: str) -> dict[str, np.ndarray]:
    """Arrays of safetensors bytes. Raises CheckpointError that names `source` when they are damaged or cut short."""
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{source}: not a whole safetensors file of {len(content)} bytes: {error}") from None


def save_checkpoint(path: str | Path, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
    """Writes PATH (safetensors) with `information` inside it, atomically.

    One file holds both, so that weights and their description can never be of different moments. Raises OSError
    when the disk is full; the previous checkpoint is then still whole.
    """
    content = encode_arrays(arrays, {"format": FORMAT, "format_version": FORMAT_VERSION, **information})
    write_atomically(path, content)


def load_checkpoint(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a checkpoint: arrays and information. Raises CheckpointError, or FileNotFoundError."""
    content = Path(path).read_bytes()
    arrays = decode_arrays(content, str(path))
    header_size = int.from_bytes(content[:8], "little")
    try:
        information = json.loads(json.loads(content[8 : 8 + header_size])["__metadata__"][_KEY])
    except (KeyError, ValueError):
        raise CheckpointError(f"{path}: a safetensors file, but not a checkpoint of this suite") from None
    if information.get("format") != FORMAT or information.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: got format {information.get('format')!r} version {information.get('format_version')!r},"
            f" expected {FORMAT!r} version {FORMAT_VERSION}"
        )
    return arrays, information


def under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, by the rest of their names: what one part of a checkpoint wrote."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old or the new content, never a part: temporary file, fsync, rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
