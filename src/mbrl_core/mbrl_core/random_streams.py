# SPDX-License-Identifier: Apache-2.0
"""Random streams keyed by what they are for, so that nobody's draws depend on who else drew before."""

import hashlib

import numpy as np


def stream_seed(seed: int, episode: int, step: int, name: str) -> int:
    """63-bit seed of the stream (seed, episode, step, name)."""
    digest = hashlib.sha256(f"{seed}/{episode}/{step}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, episode: int, step: int, name: str) -> np.random.Generator:
    """Generator of the stream (seed, episode, step, name); `name` is the controller or purpose."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, episode, step, name)))
