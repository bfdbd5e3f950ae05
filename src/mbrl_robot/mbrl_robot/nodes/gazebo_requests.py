# SPDX-License-Identifier: Apache-2.0
"""How Gazebo is asked for things: by services of ROS where there are any, else by its own command and executables.

Messages of simulation_interfaces and ros_gz_interfaces need not be installed: they are imported when a service of
their type is there.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

Done = Callable[[str], None]
GZ_TIMEOUT_MS = 5000


class Services:
    """Calls a service by the type that it has, wherever it is."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._group = MutuallyExclusiveCallbackGroup()
        self._clients: dict[str, Client[Any, Any]] = {}

    def find(self, kind: str) -> str:
        """Name of a service of a type like `ros_gz_interfaces/srv/ControlWorld`; empty where there is none."""
        for name, kinds in self._node.get_service_names_and_types():
            if kind in kinds:
                return name
        return ""

    def call(self, kind: str, name: str, fill: Callable[[Any], None], judge: Callable[[Any], str], done: Done) -> None:
        """Calls it; `judge` says of the response what went wrong, if anything."""
        package, _, type_name = kind.split("/")
        try:
            service = getattr(importlib.import_module(f"{package}.srv"), type_name)
        except ImportError as error:
            done(f"{name} is there, and its messages are not: {error}")
            return
        if name not in self._clients:
            self._clients[name] = self._node.create_client(service, name, callback_group=self._group)
        request = service.Request()
        fill(request)

        def answered(future: Future[Any]) -> None:
            response = future.result()
            done("no answer" if response is None else judge(response))

        self._clients[name].call_async(request).add_done_callback(answered)


class Programs:
    """Runs programs, one at a time, without waiting for them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._said: Any = None
        self._done: Done | None = None
        self._name = self._expected = ""

    def run(self, words: list[str], done: Done, expected: str = "") -> None:
        """Starts a program; `done` is told what went wrong: its status, or that `expected` was not said."""
        self.stop()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said)
        except OSError as error:
            done(f"{words[0]}: {error.strerror}")
            return
        self._done, self._name, self._expected = done, Path(words[0]).name, expected

    def poll(self) -> None:
        """Looks whether it has ended."""
        if self._process is None or self._process.poll() is None:
            return
        process, done, self._process, self._done = self._process, self._done, None, None
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip()
        self._said.close()
        failed = process.returncode != 0 or self._expected not in said
        assert done is not None
        done(f"{self._name} ended with status {process.returncode}: {said[-300:]}" if failed else "")

    def stop(self) -> None:
        """Ends one that runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self._done = None, None


def executable(package: str, name: str) -> str:
    """Path of a package's executable. Raises FileNotFoundError, and says what is missing."""
    try:
        path = Path(get_package_prefix(package)) / "lib" / package / name
    except PackageNotFoundError:
        raise FileNotFoundError(f"package {package!r} is not installed") from None
    if not path.is_file():
        raise FileNotFoundError(f"package {package!r} has no executable {name!r}")
    return str(path)


def gz_service(service: str, request_type: str, request: str) -> list[str]:
    """Command line that calls a service of Gazebo's own transport; it prints `data: true`.

    Raises FileNotFoundError where there is no `gz`.
    """
    gz = shutil.which("gz")
    if gz is None:
        raise FileNotFoundError("there is no command `gz`")
    kinds = ["--reqtype", request_type, "--reptype", "gz.msgs.Boolean"]
    return [gz, "service", "-s", service, *kinds, "--timeout", str(GZ_TIMEOUT_MS), "--req", request]
