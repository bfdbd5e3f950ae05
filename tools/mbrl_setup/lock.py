# SPDX-License-Identifier: Apache-2.0
"""One set-up at a time per checkout."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator

from .places import Places


@contextlib.contextmanager
def exclusive(places: Places) -> Iterator[int]:
    """Hold the checkout's set-up lock.

    It goes with the process, however that ends, and with those to which it has passed the descriptor: a pip that
    goes on after its set-up was killed is waited for as well.

    Yields:
        the descriptor.
    """
    while True:
        places.state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(places.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _wait(descriptor)
            if _is_still_there(descriptor, places):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _wait(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("mbrl: another set-up of this checkout is running; waiting for it", file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_still_there(descriptor: int, places: Places) -> bool:
    """Whether the file locked is the one others would lock: `clean` removes it while they wait."""
    try:
        there = os.stat(places.state / "lock")
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
