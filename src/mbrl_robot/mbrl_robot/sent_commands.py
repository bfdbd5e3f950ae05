# SPDX-License-Identifier: Apache-2.0
"""What acts on a robot when, of the commands that were sent: each a known delay later, until the next one does."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import Array

# Beside those that a delay keeps on their way: safe actions come between the steps of a clock.
SPARE = 16


@dataclass(frozen=True)
class Coming:
    """What is known of the intervals to come: `executed` [n, action_size] means of what acts in them, `sent`
    [m, action_size] commands as sent, see TimeStep.sent_actions.
    """

    executed: Array
    sent: Array


class SentCommands:
    """The newest commands [action_size], normalised, with the times at which they were sent.

    All times are nanoseconds of one clock. Before the first command, `rest` acts.
    """

    def __init__(self, rest: Array, period_ns: int, delay_ns: int) -> None:
        self.period_ns, self.delay_ns = period_ns, delay_ns
        self._kept = delay_ns // period_ns + SPARE
        self._times: list[int] = []
        self._actions: list[Array] = []
        self.restart(rest)

    def restart(self, rest: Array) -> None:
        """Forgets all commands: `rest` acts and has always acted."""
        self._rest = rest
        self._times, self._actions = [], []

    def add(self, time_ns: int, action: Array) -> None:
        """Takes a command sent at `time_ns`."""
        if len(self._times) >= self._kept:
            self._rest = self._actions[0]
            del self._times[0], self._actions[0]
        self._times.append(max(time_ns, self._times[-1]) if self._times else time_ns)
        self._actions.append(action)

    def sent_until(self, time_ns: int) -> Array:
        """The newest command [action_size] that had been sent by `time_ns`."""
        index = bisect_right(self._times, time_ns)
        return self._actions[index - 1] if index else self._rest

    def executed(self, begin_ns: int, rows: int = 1, planned: Sequence[tuple[int, Array]] = ()) -> Array:
        """Means [rows, action_size] of what acts over consecutive control periods from `begin_ns` on.

        `planned` are commands still to be sent, with their times, in order.
        """
        times = [time_ns + self.delay_ns for time_ns in (*self._times, *(item[0] for item in planned))]
        actions = [*self._actions, *(item[1] for item in planned)]
        means = []
        for row in range(rows):
            begin = begin_ns + row * self.period_ns
            end = begin + self.period_ns
            index = bisect_right(times, begin)
            acting = actions[index - 1] if index else self._rest
            mean, since = None, begin
            for time_ns, action in zip(times[index:], actions[index:], strict=True):
                if time_ns >= end:
                    break
                share = (time_ns - since) / self.period_ns * acting
                mean = share if mean is None else mean + share
                acting, since = action, time_ns
            means.append(acting if mean is None else mean + (end - since) / self.period_ns * acting)
        return np.array(means).reshape(rows, len(self._rest))

    def coming(self, begin_ns: int, late_ns: int, actions: Array, decided: bool) -> Coming:
        """What is to come after the sample at `begin_ns`.

        `actions` [n, action_size] are the commands of this step and the next ones if nothing newer comes, each sent
        `late_ns` after its sample; `decided`: the first of them has been sent. None of them: nothing is told.
        """
        nothing = np.zeros((0, len(self._rest)))
        if not len(actions):
            return Coming(nothing, nothing)
        times = [begin_ns + index * self.period_ns + late_ns for index in range(len(actions))]
        planned = list(zip(times, actions, strict=True))[decided:]
        whole = self.delay_ns // self.period_ns
        executed = self.executed(begin_ns, len(actions) + whole, planned)
        if not self.delay_ns:
            return Coming(executed, nothing)
        # Half a period after a step, its command has been sent and that of the next step has not.
        halves = [times[0] - back * self.period_ns + self.period_ns // 2 for back in range(whole + 1, 0, -1)]
        return Coming(executed, np.concatenate([[self.sent_until(time_ns) for time_ns in halves], actions]))
