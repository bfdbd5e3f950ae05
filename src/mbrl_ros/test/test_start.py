# SPDX-License-Identifier: Apache-2.0
"""Executables: a signal while a node still loads ends it without a word."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SLOW = """
import time
print("loading", flush=True)
time.sleep(30.0)
"""
FAILING = """
def main():
    print("out")
    return 3
"""


def start(folder: Path, source: str) -> "subprocess.Popen[str]":
    (folder / "a_node.py").write_text(source, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-c", "from mbrl_ros.start import start; start('a_node')"],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_ends_quietly(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, SLOW)
    assert process.stdout is not None and process.stdout.readline() == "loading\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=10.0)
    assert (process.returncode, errors) == (0, "")


def test_status_and_output_of_a_node_get_through(tmp_path: Path) -> None:
    process = start(tmp_path, FAILING)
    output, errors = process.communicate(timeout=30.0)
    assert (process.returncode, output, errors) == (3, "out\n", "")


def test_an_import_that_fails_says_why(tmp_path: Path) -> None:
    process = start(tmp_path, "import no_such_module")
    _, errors = process.communicate(timeout=30.0)
    assert process.returncode == 1
    assert "No module named 'no_such_module'" in errors
