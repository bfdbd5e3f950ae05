# SPDX-License-Identifier: Apache-2.0
"""ROS domains that nobody on this machine uses."""

import random
import socket
import threading

_LOCK = threading.Lock()
_GIVEN: set[int] = set()


def free_domain() -> int:
    """A domain among 1 to 100 in which nobody seems to be, never the same one twice while others are left."""
    with _LOCK:
        candidates = random.SystemRandom().sample(range(1, 101), 100)
        found = next((domain for domain in candidates if domain not in _GIVEN and _is_free(domain)), candidates[0])
        _GIVEN.add(found)
        if len(_GIVEN) > 90:
            _GIVEN.clear()
        return found


def _is_free(domain: int) -> bool:
    # The first participant of a domain takes this port for its discovery traffic (RTPS 2.2, section 9.6.1.1).
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 7400 + 250 * domain + 10))
        except OSError:
            return False
    return True
