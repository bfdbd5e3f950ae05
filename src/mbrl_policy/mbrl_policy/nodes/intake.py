# SPDX-License-Identifier: Apache-2.0
"""Takes what waits in many subscriptions, in the order in which it was received.

rclpy takes one message of a subscription per wake-up, and a wake-up costs far more than the message. Whoever wants
every message and none of them at once looks from time to time instead, and takes all that waits.
"""

import heapq
import time
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from mbrl_ros.qos import QUIET_SUBSCRIPTION


class _NeverReady(CallbackGroup):
    """Keeps an executor from waiting for its members: none of their messages wakes up the process."""

    def can_execute(self, entity: Any) -> bool:
        """No."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """No."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing has begun."""


class Intake:
    """Raw subscriptions of a node whose messages wait, as many as their depth, until `take` is called."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._group = _NeverReady()
        self._subscriptions: dict[int, Subscription[Any]] = {}
        self._newest_ns: dict[int, int] = {}
        # At most one message of each subscription, not yet handed on: (time of reception, order of taking, key, bytes).
        self._heads: list[tuple[int, int, int, bytes]] = []
        self._without_head: set[int] = set()
        self._order = count()

    def subscribe(self, key: int, message_class: type[Any], topic: str, profile: QoSProfile) -> None:
        """Subscribes; `take` names messages of this subscription by `key`, which no other has."""
        self._subscriptions[key] = self._node.create_subscription(
            message_class,
            topic,
            _never_called,
            profile,
            raw=True,
            callback_group=self._group,
            event_callbacks=QUIET_SUBSCRIPTION,
        )
        self._without_head.add(key)

    def take(self, limit: int) -> Iterator[tuple[int, int, bytes]]:
        """Yields (key, time of reception in ns since 1970, CDR bytes) of at most `limit` messages, the oldest first.

        What is beyond the limit waits for the next call. Messages of one subscription always keep their order, also
        when the system clock steps back.
        """
        return islice(self._merged(), limit)

    def _merged(self) -> Iterator[tuple[int, int, bytes]]:
        for key in sorted(self._without_head):
            self._draw(key)
        while self._heads:
            received_ns, _, key, content = heapq.heappop(self._heads)
            # Before it is handed on: who takes messages may stop at any of them.
            self._draw(key)
            yield key, received_ns, content

    def _draw(self, key: int) -> None:
        subscription = self._subscriptions[key]
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, True)
        if taken is None:
            self._without_head.add(key)
            return
        content, information = taken
        # A middleware that does not know when says 0.
        received_ns = max(information["received_timestamp"] or time.time_ns(), self._newest_ns.get(key, 0))
        self._newest_ns[key] = received_ns
        self._without_head.discard(key)
        heapq.heappush(self._heads, (received_ns, next(self._order), key, content))


def _never_called(content: bytes) -> None:
    """Stands where rclpy asks for a callback."""
