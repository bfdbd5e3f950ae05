# SPDX-License-Identifier: Apache-2.0
"""Runs what a launch file comes to, and leaves nothing running behind."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import yaml

from .description import LaunchDescription
from .expand import expand
from .guardian import ESCALATION
from .process import NodeProcess

_GUARDIAN = Path(__file__).with_name("guardian.py")
_POLL = 0.05


@dataclass(frozen=True)
class NodeState:
    """What is known of one node's process.

    Attributes:
        exit_status: of the newest end, negative for a signal; None while it runs.
    """

    label: str
    pid: int | None
    exit_status: int | None
    restarts: int


class LaunchRunner:
    """Starts the nodes of a launch file, restarts those that ask for it, and ends them all.

    Use:
        with LaunchRunner(file, {"robot": "cartpole"}, log_directory=run) as runner:
            while runner.poll() is None:
                ...

    Every node runs in a session of its own and is signalled as a group. When the process that owns the runner
    dies, in whatever way, the nodes are ended all the same.
    """

    def __init__(
        self,
        file: Path,
        arguments: Mapping[str, str],
        log_directory: Path,
        output: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Read and expand the launch file; starts nothing.

        Args:
            log_directory: stands for `$(log_dir)`; all output goes to `launch.log` in it.
            output: is given each line that belongs on the screen; called from the runner's own thread.
            environment: variables for the nodes; default: this process's.

        Raises:
            LaunchFileError: by file and line, what the launch file has that cannot be run.
        """
        self.log_directory = log_directory
        self.description: LaunchDescription = expand(file, arguments, log_directory)
        self._output = output
        self._environment = {**(os.environ if environment is None else environment), "PYTHONUNBUFFERED": "1"}
        self._folder = Path(tempfile.mkdtemp(prefix="mbrl_launch_"))
        self._processes = [
            NodeProcess(node, node.command(self._parameter_files(number)), self._report)
            for number, node in enumerate(self.description.nodes)
        ]
        self._requests: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stop_at: float | None = None
        self._status = 0
        self._done = threading.Event()
        self._states: list[NodeState] = []
        self._held: dict[str, list[str]] = {}

    def start(self) -> None:
        """Start every node."""
        if self._thread is not None:
            raise RuntimeError("a LaunchRunner starts once")
        self.log_directory.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._supervise, name="launch", daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """None while nodes run; then the exit status: 0 when none failed before the end was asked for."""
        return self._status if self._done.is_set() else None

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, at most `timeout` seconds. Returns what poll() does."""
        self._done.wait(timeout)
        return self.poll()

    def request_stop(self) -> None:
        """Ask for the end without waiting; may be called from a signal handler. A second call ends all at once."""
        self._requests.put(1)

    def stop(self) -> int:
        """End every node: within 3 s all are gone. Returns the exit status."""
        if self._thread is None:
            self._clean_up()
            return 0
        self.request_stop()
        self._thread.join()
        return self._status

    def states(self) -> list[NodeState]:
        """The state of every node, in the order of the launch file."""
        return list(self._states)

    def __enter__(self) -> LaunchRunner:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _parameter_files(self, number: int) -> list[Path]:
        files = []
        for position, entry in enumerate(self.description.nodes[number].parameters):
            if isinstance(entry, Path):
                files.append(entry)
                continue
            content = {owner: {"ros__parameters": dict(values)} for owner, values in entry.items()}
            file = self._folder / f"parameters_{number}_{position}.yaml"
            file.write_text(yaml.safe_dump(content), encoding="utf-8")
            files.append(file)
        return files

    def _supervise(self) -> None:
        try:
            with open(self.log_directory / "launch.log", "a", encoding="utf-8", buffering=1) as self._log:
                guardian = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_GUARDIAN)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                assert guardian.stdin is not None
                self._guard = guardian.stdin
                try:
                    self._loop()
                finally:
                    for process in self._processes:
                        process.signal(signal.SIGKILL)
                    with contextlib.suppress(OSError):
                        self._guard.close()
                    guardian.wait()
        except BaseException as error:
            self._status = 1
            print(f"mbrl launch: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            self._clean_up()
            self._done.set()

    def _loop(self) -> None:
        with selectors.DefaultSelector() as selector:
            for process in self._processes:
                self._start(process, selector)
            while any(process.pid is not None or process.restart_at is not None for process in self._processes):
                for key, _ in selector.select(_POLL):
                    if not key.data.read(key.fileobj):
                        selector.unregister(key.fileobj)
                self._take_requests()
                for process in self._processes:
                    self._look_after(process, selector)
                self._escalate()
                self._note_states()
        self._note_states()

    def _start(self, process: NodeProcess, selector: selectors.BaseSelector) -> None:
        process.start(self._environment)
        with contextlib.suppress(OSError):
            self._guard.write(f"+{process.pid}\n".encode())
            self._guard.flush()
        for stream in process.streams():
            selector.register(stream, selectors.EVENT_READ, process)

    def _look_after(self, process: NodeProcess, selector: selectors.BaseSelector) -> None:
        if process.restart_at is not None and time.monotonic() >= process.restart_at:
            self._start(process, selector)
        if process.pid is None or not process.has_ended():
            return
        pid = process.pid
        for stream in process.streams():
            with contextlib.suppress(KeyError):
                selector.unregister(stream)
        process.collect(signal.SIGKILL)
        self._release(process.node.label)
        with contextlib.suppress(OSError):
            self._guard.write(f"-{pid}\n".encode())
            self._guard.flush()
        self._ended(process)

    def _ended(self, process: NodeProcess) -> None:
        status = process.exit_status
        if self._stop_at is not None:
            return
        self._report(process.node.label, f"process has ended with status {status}", status != 0)
        if process.node.respawn:
            process.schedule_restart()
            return
        if status:
            self._status = 1
        if process.node.ends_launch:
            self._begin_stop()

    def _take_requests(self) -> None:
        while True:
            try:
                self._requests.get_nowait()
            except queue.Empty:
                return
            if self._stop_at is None:
                self._begin_stop()
            else:
                for process in self._processes:
                    process.signal(signal.SIGKILL)

    def _begin_stop(self) -> None:
        self._stop_at = time.monotonic()
        self._pending = list(ESCALATION)
        for process in self._processes:
            process.restart_at = None

    def _escalate(self) -> None:
        if self._stop_at is None:
            return
        while self._pending and time.monotonic() - self._stop_at >= self._pending[0][0]:
            _, number = self._pending.pop(0)
            for process in self._processes:
                process.signal(number)

    def _report(self, label: str, line: str, is_error: bool) -> None:
        text = f"[{label}] {line}"
        # A full disk must not end the robot's nodes.
        with contextlib.suppress(OSError):
            self._log.write(text + "\n")
        if self._output is None or not (is_error or self._on_screen(label)):
            return
        if self._stop_at is not None and (label in self._held or line.startswith("Traceback")):
            self._held.setdefault(label, []).append(text)
        else:
            self._output(text)

    def _release(self, label: str) -> None:
        """Show what was held back, unless it only says that the node was interrupted, perhaps while it started."""
        held = self._held.pop(label, [])
        if self._output is not None and held and not held[-1].endswith("KeyboardInterrupt"):
            for text in held:
                self._output(text)

    def _on_screen(self, label: str) -> bool:
        return any(node.label == label and node.output != "log" for node in self.description.nodes)

    def _note_states(self) -> None:
        self._states = [
            NodeState(process.node.label, process.pid, process.exit_status, process.restarts)
            for process in self._processes
        ]

    def _clean_up(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
