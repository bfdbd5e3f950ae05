# SPDX-License-Identifier: Apache-2.0
"""What commands share that talk to a robot that is running: a node of their own, and waiting with an end to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.client import Client
    from rclpy.node import Node


class Talk:
    """A node, and waiting for what it hears. Raises TimeoutError that says what was waited for."""

    def __init__(self, node: Node, timeout: float) -> None:
        self.node = node
        self._timeout = timeout

    def wait(self, condition: Callable[[], object], what: str, timeout: float | None = None) -> None:
        """Spins until `condition` holds."""
        import rclpy

        seconds = self._timeout if timeout is None else timeout
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds:g} s for {what}")
            rclpy.spin_once(self.node, timeout_sec=0.02)

    def call(self, client: Client, request: Any) -> Any:
        """Calls a service once it is there; its response."""
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        self.wait(client.service_is_ready, f"the service {client.srv_name} in ROS domain {domain}")
        future = client.call_async(request)
        self.wait(future.done, f"an answer of {client.srv_name}")
        return future.result()


@contextmanager
def talk(name: str, namespace: str, timeout: float) -> Iterator[Talk]:
    """A node of this name for the length of a `with`. Signals stay Python's: Ctrl-C raises KeyboardInterrupt."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(name, namespace=namespace or None)
    try:
        yield Talk(node, timeout)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
