# SPDX-License-Identifier: Apache-2.0
"""Keeps Python's garbage collector out of the time between a state and its plan."""

import gc


class GarbagePauses:
    """Collects when told to, right after a plan has been sent, instead of whenever a counter overflows.

    A full collection with torch and rclpy loaded takes about 50 ms, more than a control period; what is alive at
    `begin` is taken out of its sight, and what is left takes well below a millisecond.
    """

    INTERVAL = 50  # calls of `pause` between two collections

    def __init__(self) -> None:
        self._calls = 0

    def begin(self) -> None:
        """Stops automatic collection; everything alive now is never looked at again until `end`."""
        gc.collect()
        gc.freeze()
        gc.disable()

    def pause(self) -> None:
        """A good moment: nobody waits for this process."""
        self._calls += 1
        if self._calls % self.INTERVAL == 0:
            gc.collect()

    def end(self) -> None:
        """Back to automatic collection."""
        gc.unfreeze()
        gc.enable()
