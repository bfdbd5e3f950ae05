# SPDX-License-Identifier: Apache-2.0
"""Asks other nodes for their parameters, so that a run says how it was made."""

from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.task import Future


class SettingsRecord:
    """Parameters of several nodes of this namespace, by node; `poll` until it returns true or patience ends."""

    def __init__(self, node: Node, names: Iterable[str]) -> None:
        self.values: dict[str, dict[str, Any]] = {}
        self._clients = {name: AsyncParameterClient(node, name) for name in sorted(names)}
        self._waiting: dict[str, Future] = {}
        self._names: dict[str, list[str]] = {}

    def poll(self) -> bool:
        """Goes on where something has come. Returns whether all have answered; never waits."""
        for name, client in self._clients.items():
            if name in self.values:
                continue
            future = self._waiting.get(name)
            if future is None:
                if client.services_are_ready():
                    self._waiting[name] = client.list_parameters()
            elif future.done():
                self._go_on(name, client, future.result())
        return len(self.values) == len(self._clients)

    def _go_on(self, name: str, client: AsyncParameterClient, answer: Any) -> None:
        if answer is None:
            del self._waiting[name]
        elif name not in self._names:
            self._names[name] = list(answer.result.names)
            self._waiting[name] = client.get_parameters(self._names[name])
        else:
            values = (parameter_value_to_python(value) for value in answer.values)
            self.values[name] = {
                key: list(value) if hasattr(value, "tolist") or isinstance(value, tuple) else value
                for key, value in zip(self._names[name], values, strict=True)
            }
