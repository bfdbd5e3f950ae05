# SPDX-License-Identifier: Apache-2.0
"""The main function of every node."""

import gc
import signal
import sys
import weakref
from collections.abc import Callable, Sequence
from types import FrameType

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from mbrl_core.config import ConfigurationError
from mbrl_core.specs import SpecError

USAGE_ERROR = 2
SIGNAL_CHECK_PERIOD = 0.1  # s
PATIENCE = 1.0  # s that a callback under way may take after a signal before it is interrupted

_last_node: weakref.ref[Node] | None = None


class _Signals:
    """SIGINT and SIGTERM ask for the end between two callbacks, so that none is cut in half.

    rclpy's own handlers would end the context first, and a node could no longer send its last safe command. A callback
    that goes on for longer than PATIENCE is interrupted.
    """

    def __init__(self) -> None:
        self.stop = False
        # A background job of a shell is started with SIGINT ignored; a node never ignores it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)
        signal.signal(signal.SIGALRM, self._interrupt)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.stop = True
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    @staticmethod
    def ignore() -> None:
        """From here on nothing interrupts: what is recorded has to reach the disk."""
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)


def run(factory: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """Makes a node, spins it in a single-threaded executor, and returns the exit status.

    SIGINT and SIGTERM end it with 0 after `node.destroy_node()`, during which it can still publish. A node
    ends itself by shutting its context down; it may set `exit_status` before. Bad configuration is one line on
    standard error and status 2.
    """
    global _last_node
    signals = _Signals()
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    node: Node | None = None
    executor = SingleThreadedExecutor()
    status = 0
    try:
        node = factory()
        executor.add_node(node)
        while not signals.stop and rclpy.ok():
            executor.spin_once(timeout_sec=SIGNAL_CHECK_PERIOD)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ConfigurationError, SpecError, FileNotFoundError) as error:
        name = node.get_name() if node is not None else sys.argv[0].rpartition("/")[2]
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        status = USAGE_ERROR
    finally:
        signals.ignore()
        if node is not None:
            status = status or int(getattr(node, "exit_status", 0))
            executor.shutdown(timeout_sec=1.0)
            node.destroy_node()
            _last_node = weakref.ref(node)
        rclpy.try_shutdown()
    return status


def has_left_the_graph() -> bool:
    """Whether all of the node that `run` made is gone, its threads and shared memory of the middleware included.

    Call it when `run` has returned. While it is False, the process must not be ended without the usual teardown: a
    thread that ends while it holds a lock in shared memory makes every other node on the machine wait for ever.
    """
    gc.unfreeze()  # what a node took out of the collector's sight for the sake of its deadlines
    gc.collect()
    return _last_node is None or _last_node() is None
