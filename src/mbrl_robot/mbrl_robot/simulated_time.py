# SPDX-License-Identifier: Apache-2.0
"""A simulator's time as its stamps show it: how fast it goes, whether it stands still, when it began anew."""

from collections import deque

# Stretch of steady time that the real-time factor is measured over, and the least that it is measured over.
WINDOW_NS = 2_000_000_000
SHORTEST_NS = 100_000_000
# What is on its way through a queue arrives sooner than this.
PATIENCE_NS = 1_000_000_000


class SimulatedTime:
    """Follows the stamps of one source, in nanoseconds, with the steady times of their arrival.

    `stamp_ns` is the newest stamp, None before any; `beginnings` counts how often time has begun anew.
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._seen: deque[tuple[int, int]] = deque()
        self._restart_expected_until_ns = 0
        self.beginnings = 0
        self.stamp_ns: int | None = None
        self.advanced_ns = 0

    def expect_restart(self, time_ns: int) -> None:
        """Time has begun anew, and stamps that show it are on their way: the next that is older than the last one does,
        by however little. Where none comes soon after `time_ns` there was no restart.
        """
        self._restart_expected_until_ns = time_ns + PATIENCE_NS

    def awaits_restart(self, time_ns: int) -> bool:
        """Whether a restart is expected that no stamp has shown yet."""
        return time_ns < self._restart_expected_until_ns

    def update(self, stamp_ns: int, arrival_ns: int) -> bool:
        """Takes a stamp. Returns whether it is the first of a new beginning.

        A stamp that goes back by less than a period is one that was overtaken, unless a restart is expected.
        """
        last = self.stamp_ns
        back_ns = 0 if last is None else last - stamp_ns
        if back_ns > 0 and (self.awaits_restart(arrival_ns) or back_ns >= self._period_ns):
            self._restart_expected_until_ns = 0
            self.beginnings += 1
            self._seen.clear()
            self._note(stamp_ns, arrival_ns)
            return True
        if last is None or stamp_ns > last:
            self._note(stamp_ns, arrival_ns)
        return False

    def standing_ns(self, time_ns: int) -> int:
        """For how much steady time stamps have not advanced: a simulator that is paused may repeat the last one."""
        return time_ns - self.advanced_ns if self._seen else 0

    @property
    def factor(self) -> float:
        """Simulated time per steady time over the newest stretch without a pause; 1 while unknown."""
        if not self._seen:
            return 1.0
        (first_stamp, first_arrival), (last_stamp, last_arrival) = self._seen[0], self._seen[-1]
        elapsed_ns = last_arrival - first_arrival
        return (last_stamp - first_stamp) / elapsed_ns if elapsed_ns >= SHORTEST_NS else 1.0

    def now_ns(self, time_ns: int) -> int:
        """Simulated time at a steady time, by the last stamp and the factor; at most a period ahead of that stamp."""
        if not self._seen:
            return 0
        stamp_ns, arrival_ns = self._seen[-1]
        ahead_ns = round((time_ns - arrival_ns) * self.factor)
        return stamp_ns + min(max(ahead_ns, 0), self._period_ns)

    def resumed(self, arrival_ns: int) -> None:
        """Time had stood still: what it did before says nothing of how fast it goes."""
        self._seen.clear()
        self.advanced_ns = arrival_ns

    def _note(self, stamp_ns: int, arrival_ns: int) -> None:
        self.stamp_ns, self.advanced_ns = stamp_ns, arrival_ns
        self._seen.append((stamp_ns, arrival_ns))
        while arrival_ns - self._seen[0][1] > WINDOW_NS:
            self._seen.popleft()
