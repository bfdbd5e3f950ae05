# SPDX-License-Identifier: Apache-2.0
"""Checkpoints come back whole or are refused."""

from pathlib import Path

import numpy as np
import pytest

from mbrl_core.checkpoint import (
    CheckpointError,
    decode_arrays,
    encode_arrays,
    load_checkpoint,
    save_checkpoint,
    write_atomically,
)

ARRAYS = {"weight": np.arange(12, dtype=np.float32).reshape(3, 4), "count": np.array([7], dtype=np.int64)}


def test_arrays_and_information_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    save_checkpoint(path, ARRAYS, {"kind": "ensemble", "version": 3})
    arrays, information = load_checkpoint(path)
    assert information["kind"] == "ensemble" and information["version"] == 3
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], value)
        assert arrays[name].dtype == value.dtype


def test_a_transposed_array_keeps_its_meaning() -> None:
    value = np.arange(6.0).reshape(2, 3).T
    np.testing.assert_array_equal(decode_arrays(encode_arrays({"x": value}), "test")["x"], value)


def test_every_truncation_is_refused() -> None:
    content = encode_arrays(ARRAYS)
    for length in range(len(content)):
        with pytest.raises(CheckpointError, match="model: not a whole safetensors file"):
            decode_arrays(content[:length], "model")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(encode_arrays(ARRAYS, {"format": "something else"}))
    with pytest.raises(CheckpointError, match="got format 'something else'"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
