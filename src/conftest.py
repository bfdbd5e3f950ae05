# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a process that no earlier test's middleware lives on in, a ROS domain, and two halves."""

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbrl_bringup.domains import reserved_domain

# Nodes in lockstep wait for everybody, so that a busy machine does them no harm, and these compute for minutes; others
# start programs that only calculate.
_PATIENT = {
    "test_replay.py", "test_robot_new.py", "test_irl_node.py",
    "test_bags_episodes.py", "test_dart_simulation.py", "test_formats.py", "test_gazebo_files.py",
    "test_gazebo_physics.py", "test_layers.py", "test_policy_onnx.py",
}  # fmt: skip
# What a test module, or one beside it that it imports, names where it starts nodes or processes.
_GRAPH = re.compile(r"\b(rclpy|subprocess|reserved_domain|free_domain|RunRequest)\b")
_IMPORT = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)
_TASKS = Path("/proc/self/task")
_settled = 0


def _threads() -> int:
    return len(os.listdir(_TASKS)) if _TASKS.exists() else 0


def pytest_runtest_logfinish() -> None:
    """Contexts leave the ROS graph when they are collected, which nodes under test put off for the sake of their
    deadlines. Dozens that stay find no new ones, and have been seen to hold each other's locks for ever.

    After a test, when nothing of it is held any more; where it left threads behind, for a collection takes a moment.
    """
    global _settled
    gc.unfreeze()
    gc.enable()
    if _threads() > _settled:
        gc.collect()
    _settled = _threads()


@pytest.fixture(scope="module")
def free_domain() -> Iterator[int]:
    """A ROS domain that nobody else on this machine is in, for the tests of a module."""
    with reserved_domain() as domain:
        yield domain


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--half` lets two processes share the tests: graphs wait more than they compute."""
    parser.addoption(
        "--half",
        choices=("graphs", "calculations"),
        help="only modules with nodes or processes that keep to the clock, or only others",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Calculations run beside graphs that keep to the clock: they get what those leave."""
    if config.getoption("--half") == "calculations" and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the half that was asked for."""
    half = config.getoption("--half")
    if half is None:
        return
    paths = {item.path for item in items if item.path.name not in _PATIENT}
    graphs = {path for path in paths if _starts_processes(path, set())}
    config.hook.pytest_deselected(items=[item for item in items if (item.path in graphs) != (half == "graphs")])
    items[:] = [item for item in items if (item.path in graphs) == (half == "graphs")]


def _starts_processes(module: Path, seen: set[Path]) -> bool:
    text = module.read_text(encoding="utf-8")
    if _GRAPH.search(text):
        return True
    seen.add(module)
    beside = {module.parent / f"{name}.py" for name in _IMPORT.findall(text)} - seen
    return any(_starts_processes(path, seen) for path in beside if path.is_file())
