# SPDX-License-Identifier: Apache-2.0
"""The compiled library of package mbrl_kernels: where it is, what this processor can run of it, and its structures.

See src/mbrl_kernels/src/kernels.h for the meaning of the fields.
"""

import ctypes
import functools
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from mbrl_dynamics.model import RolloutInterrupted

LIBRARY = "libmbrl_kernels.so"
TILE = 8
FLOAT32, BFLOAT16_PAIRS, BFLOAT16_TILES = range(3)  # MbrlLayout
STOPPED = 3
PROPAGATION_NUMBERS = {"ts1": 0, "tsinf": 0, "mean": 1, "ds": 2, "mm": 3}


KEEP_GOING = ctypes.CFUNCTYPE(ctypes.c_int32)


class ModelStructure(ctypes.Structure):
    """MbrlModel."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("members", "state_size", "action_size", "linear_count", "angular_count")),
        *((name, ctypes.c_int32) for name in ("hidden_layers", "hidden_size", "output_size")),
        *((name, ctypes.c_void_p) for name in ("linear_index", "angular_index", "first", "hidden_bias", "hidden")),
        *((name, ctypes.c_void_p) for name in ("out", "out_bias", "linear", "bounds")),
    ]


class RolloutStructure(ctypes.Structure):
    """MbrlRollout."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("candidates", "horizon", "particles", "propagation", "threads")),
        *((name, ctypes.c_void_p) for name in ("state", "actions", "member", "noise", "states")),
        ("keep_going", KEEP_GOING),
    ]


@dataclass(frozen=True)
class Variant:
    """One instruction set's version of the code."""

    index: int
    name: str
    usable: bool
    pays: bool
    layout: int

    @property
    def bfloat16(self) -> bool:
        """Whether products of hidden layers are of bfloat16."""
        return self.layout != FLOAT32


class Kernels:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        library.mbrl_variant_name.restype = ctypes.c_char_p
        library.mbrl_rollout.argtypes = [
            ctypes.c_int32,
            ctypes.POINTER(ModelStructure),
            ctypes.POINTER(RolloutStructure),
        ]
        self._library = library
        self.variants = tuple(
            Variant(
                index,
                library.mbrl_variant_name(index).decode(),
                bool(library.mbrl_variant_usable(index)),
                bool(library.mbrl_variant_pays(index)),
                library.mbrl_variant_layout(index),
            )
            for index in range(library.mbrl_variant_count())
        )

    def best(self, precision: str) -> Variant:
        """The fastest usable variant of a precision; `bfloat16` is float32 where that is faster."""
        candidates = [variant for variant in self.variants if variant.usable and variant.pays]
        if precision != "float32" and candidates[-1].bfloat16:
            return candidates[-1]
        return [variant for variant in candidates if not variant.bfloat16][-1]

    def rollout(self, variant: Variant, model: ModelStructure, rollout: RolloutStructure) -> None:
        """Runs a rollout; other Python threads go on meanwhile.

        Raises RolloutInterrupted when it was told to stop and MemoryError when there is no memory.
        """
        result = self._library.mbrl_rollout(variant.index, ctypes.byref(model), ctypes.byref(rollout))
        if result == STOPPED:
            raise RolloutInterrupted(f"stopped in a rollout of {rollout.candidates} candidates")
        if result != 0:
            raise MemoryError(f"rollout of {rollout.candidates} candidates in variant {variant.name}")


@functools.cache
def kernels() -> Kernels | None:
    """The library of the first ament prefix that has it; None, with one line in the log, where there is none."""
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        path = Path(prefix, "lib", LIBRARY)
        if prefix and path.exists():
            try:
                return Kernels(path)
            except OSError as error:
                logging.getLogger(__name__).warning("%s cannot be loaded: %s", path, error)
    logging.getLogger(__name__).warning("%s is not on AMENT_PREFIX_PATH: rollouts go through torch", LIBRARY)
    return None
