# SPDX-License-Identifier: Apache-2.0
"""The main function of every node."""

import signal
import sys
from typing import Callable, Sequence

import rclpy
from mbrl_core.config import ConfigurationError
from mbrl_core.specs import SpecError
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

USAGE_ERROR = 2


def run(factory: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """Makes a node, spins it in a single-threaded executor, and returns the exit status.

    SIGINT and SIGTERM end it cleanly with 0 after `node.destroy_node()`; a node may set `node.exit_status` before it shuts
    the context down. Bad configuration is one line on standard error and status 2.
    """
    # A background job of a shell ignores SIGINT; a node never does.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rclpy.init(args=arguments)
    node: Node | None = None
    executor = SingleThreadedExecutor()
    status = 0
    try:
        node = factory()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ConfigurationError, SpecError, FileNotFoundError) as error:
        name = node.get_name() if node is not None else _program_name()
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        status = USAGE_ERROR
    finally:
        if node is not None:
            status = getattr(node, "exit_status", status) if status == 0 else status
            _close(node, executor)
        rclpy.try_shutdown()
    return status


def _close(node: Node, executor: SingleThreadedExecutor) -> None:
    # A second Ctrl-C while closing must not cut the closing short: what is recorded has to reach the disk.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    executor.shutdown(timeout_sec=1.0)
    node.destroy_node()


def _program_name() -> str:
    return sys.argv[0].rpartition("/")[2]
