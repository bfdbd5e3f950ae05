# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself on /diagnostics: what it refused, by kind, and figures."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from mbrl_ros.qos import QUIET_PUBLISHER, STATUS
from mbrl_ros.steady import now_ns, steady_timer

REFUSAL_LOG_PERIOD_NS = 1_000_000_000


class Health:
    """Counts refused inputs and publishes them with the node's figures once a second.

    The first refusal of a kind, and then at most one a second, is logged as an error; every one is counted.
    """

    def __init__(self, node: Node, period: float = 1.0) -> None:
        self._node = node
        self._refused: Counter[str] = Counter()
        self._last_logged: dict[str, int] = {}
        self._values: dict[str, Any] = {}
        self._sources: list[Callable[[], Mapping[str, Any]]] = []
        self._level: bytes = DiagnosticStatus.OK
        self._message = "running"
        self._publisher = node.create_publisher(
            DiagnosticArray, "/diagnostics", STATUS, event_callbacks=QUIET_PUBLISHER
        )
        self._timer = steady_timer(node, period, self.publish)

    @property
    def refused(self) -> Counter[str]:
        """Refused inputs so far, by kind."""
        return self._refused

    def refuse(self, kind: str, text: str) -> None:
        """Counts a refused input. `text` names the topic or parameter, what came and what was expected."""
        self._refused[kind] += 1
        now = now_ns()
        if now - self._last_logged.get(kind, -REFUSAL_LOG_PERIOD_NS) >= REFUSAL_LOG_PERIOD_NS:
            self._last_logged[kind] = now
            self._node.get_logger().error(f"refused: {text} ({self._refused[kind]} of this kind so far)")

    def set(self, key: str, value: Any) -> None:
        """Sets a figure to be published."""
        self._values[key] = value

    def follow(self, source: Callable[[], Mapping[str, Any]]) -> None:
        """Figures that are asked for whenever they are published."""
        self._sources.append(source)

    def ok(self, message: str = "running") -> None:
        """Declares the node well."""
        self._level, self._message = DiagnosticStatus.OK, message

    def warn(self, message: str) -> None:
        """Declares the node in need of attention."""
        self._level, self._message = DiagnosticStatus.WARN, message

    def error(self, message: str) -> None:
        """Declares the node broken."""
        self._level, self._message = DiagnosticStatus.ERROR, message

    def publish(self) -> None:
        """Publishes now."""
        for source in self._sources:
            self._values.update(source())
        values = [KeyValue(key=key, value=_text(value)) for key, value in self._values.items()]
        values += [KeyValue(key=f"refused/{kind}", value=str(count)) for kind, count in sorted(self._refused.items())]
        status = DiagnosticStatus(
            level=self._level,
            name=self._node.get_fully_qualified_name(),
            message=self._message,
            hardware_id="",
            values=values,
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
