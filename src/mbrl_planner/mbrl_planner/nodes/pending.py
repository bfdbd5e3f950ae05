# SPDX-License-Identifier: Apache-2.0
"""A time step that waits for its answer, and how long it has been on its way."""

from dataclasses import dataclass

from mbrl_core.messages import TimeStep
from mbrl_msgs.msg import TimeStep as TimeStepMessage

LONGEST_LATENCY = 10.0  # seconds; above it, or below zero, the robot's steady clock is that of another machine


@dataclass(frozen=True)
class Pending:
    """A time step to be answered. `received` in seconds of the steady clock; `elapsed` since the sample and
    `transport` since publication are what had passed then, seconds.
    """

    time_step: TimeStep
    received: float
    elapsed: float
    transport: float

    @staticmethod
    def of(message: TimeStepMessage, time_step: TimeStep, received_ns: int) -> "Pending":
        """The time step of a message that came at `received_ns` of the steady clock; latencies of another machine's
        clock are zero.
        """
        elapsed = (received_ns - message.sample_time_ns) * 1e-9
        transport = (received_ns - message.publish_time_ns) * 1e-9
        if not 0.0 <= transport <= elapsed <= LONGEST_LATENCY:
            elapsed = transport = 0.0
        return Pending(time_step, received_ns * 1e-9, elapsed, transport)

    def latency(self, now: float) -> float:
        """Seconds from the sample until an answer published at `now` (steady clock, seconds) arrives: the way back is
        taken to be as long as the way here.
        """
        return self.elapsed + now - self.received + self.transport
