# SPDX-License-Identifier: Apache-2.0
"""ROS domains that nobody on this machine uses: two robots in one domain would hear each other's plans."""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

# People choose small numbers by hand; above 101 the ports of DDS overlap with those that Linux gives to everybody.
CANDIDATES = range(70, 102)


def range_of_this_machine() -> str:
    """Value of ROS_AUTOMATIC_DISCOVERY_RANGE with which processes hear nobody on another machine."""
    # SYSTEM_DEFAULT comes from `./mbrl`, whose profile of the middleware keeps to this machine.
    is_set_up = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "SYSTEM_DEFAULT"
    return "SYSTEM_DEFAULT" if is_set_up else "LOCALHOST"


@contextlib.contextmanager
def reserved_domain() -> Iterator[int]:
    """A domain that nobody seems to be in, kept from others who ask like this until the context ends.

    Raises RuntimeError when all are taken.
    """
    for domain in random.SystemRandom().sample(CANDIDATES, len(CANDIDATES)):
        lock = _lock(domain)
        if lock is None:
            continue
        try:
            if _is_free(domain):
                yield domain
                return
        finally:
            os.close(lock)
    raise RuntimeError(f"no free ROS domain among {CANDIDATES.start} to {CANDIDATES.stop - 1}; set ROS_DOMAIN_ID")


def _lock(domain: int) -> int | None:
    """Descriptor of a locked file; the lock ends with it. None when somebody else holds it."""
    path = Path(tempfile.gettempdir()) / f"mbrl_domain_{domain}_{os.getuid()}.lock"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_free(domain: int) -> bool:
    # The first participant of a domain takes this port for its discovery traffic (RTPS 2.2, section 9.6.1.1).
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 7400 + 250 * domain + 10))
        except OSError:
            return False
    return True
