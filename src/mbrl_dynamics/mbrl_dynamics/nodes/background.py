# SPDX-License-Identifier: Apache-2.0
"""One niced worker thread, so that training and disk never hold up the node's callbacks."""

import os
import queue
import threading
from collections.abc import Callable

import torch

Task = Callable[[], object]
Done = Callable[[BaseException | None], object]


def give_way(niceness: int) -> None:
    """Lowers the priority of the calling thread to `niceness` (0 normal, 19 lowest).

    As SCHED_BATCH it does not interrupt a thread that is awake when it itself wakes up, either: beside a planner that
    is worth milliseconds of each plan.
    """
    thread = threading.get_native_id()  # on Linux the priority of a thread id is that of this thread alone
    os.setpriority(os.PRIO_PROCESS, thread, niceness)
    os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


class BackgroundWorker:
    """Runs tasks one after another in a thread of lower priority.

    What a task's end brings is called by `drain` in the caller's thread; `wake` is called from the worker to say that
    there is something to drain.
    """

    def __init__(self, niceness: int, wake: Callable[[], object]) -> None:
        self._niceness = niceness
        self._wake = wake
        self._tasks: queue.Queue[tuple[Task, Done] | None] = queue.Queue()
        self._finished: queue.Queue[tuple[Done, BaseException | None]] = queue.Queue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="training", daemon=True)
        self._thread.start()

    def submit(self, task: Task, done: Done) -> None:
        """Queues a task. `done` gets what it raised, or None."""
        self._tasks.put((task, done))

    def keep_going(self) -> bool:
        """False once the worker is being stopped: long tasks ask it and end."""
        return not self._stopping.is_set()

    def drain(self) -> None:
        """Calls `done` of every finished task."""
        while True:
            try:
                done, error = self._finished.get_nowait()
            except queue.Empty:
                return
            done(error)

    def stop(self, timeout: float = 2.0) -> bool:
        """Ends the thread after what it is doing; drops queued tasks. Returns false when it did not end in time."""
        self._stopping.set()
        self._tasks.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        give_way(self._niceness)
        torch.set_num_threads(1)
        while self.keep_going():
            item = self._tasks.get()
            if item is None:
                return
            task, done = item
            error: BaseException | None = None
            try:
                task()
            except BaseException as raised:
                error = raised
            self._finished.put((done, error))
            self._wake()
