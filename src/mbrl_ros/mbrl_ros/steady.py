# SPDX-License-Identifier: Apache-2.0
"""Steady time. A default rclpy timer stalls when system time steps back; these do not."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer

_STEADY_CLOCK = Clock(clock_type=ClockType.STEADY_TIME)


def now_ns() -> int:
    """Nanoseconds of the steady clock; comparable between processes of one machine."""
    return time.monotonic_ns()


def steady_timer(node: Node, period: float, callback: Callable[[], Any]) -> Timer:
    """A timer of `period` seconds on the steady clock."""
    return node.create_timer(period, callback, clock=_STEADY_CLOCK)
