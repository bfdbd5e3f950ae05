# SPDX-License-Identifier: Apache-2.0
"""Asks other nodes for their parameters, so that a run says how it was made."""

from collections.abc import Iterable
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.task import Future


class SettingsRecord:
    """Parameters of several nodes of this namespace, by node; `poll` until it returns true or patience ends."""

    def __init__(self, node: Node, names: Iterable[str]) -> None:
        self.values: dict[str, dict[str, Any]] = {}
        self._node = node
        self._clients: dict[str, tuple[Client, Client]] = {
            name: (
                node.create_client(ListParameters, f"{name}/list_parameters"),
                node.create_client(GetParameters, f"{name}/get_parameters"),
            )
            for name in sorted(names)
        }
        self._names: dict[str, list[str]] = {}
        self._waiting: dict[str, Future] = {}

    def poll(self) -> bool:
        """Goes on where something has come. Returns whether all have answered; never waits."""
        for name in list(self._clients):
            self._go_on(name)
        return not self._clients

    def _go_on(self, name: str) -> None:
        lister, getter = self._clients[name]
        future = self._waiting.get(name)
        if future is None:
            if lister.service_is_ready() and getter.service_is_ready():
                self._waiting[name] = lister.call_async(ListParameters.Request())
        elif future.done():
            answer = None if future.exception() is not None else future.result()
            if answer is None:
                self._forget(name)
                return
            if name not in self._names:
                self._names[name] = list(answer.result.names)
                self._waiting[name] = getter.call_async(GetParameters.Request(names=self._names[name]))
                return
            values = (parameter_value_to_python(value) for value in answer.values)
            self.values[name] = {
                key: list(value) if hasattr(value, "tolist") else value
                for key, value in zip(self._names[name], values, strict=True)
            }
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Asks that node nothing more."""
        for client in self._clients.pop(name):
            self._node.destroy_client(client)
