# SPDX-License-Identifier: Apache-2.0
"""`./mbrl test`: ruff, mypy, pytest, in this order; all three always run.

All tests run in two processes: graphs of nodes wait more than they compute, calculations take what they leave.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

from .places import root


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when all three pass."""
    parser = argparse.ArgumentParser(
        prog="./mbrl test",
        usage="./mbrl test [PYTEST ARGUMENTS]",
        description="Check style (ruff) and types (mypy), then run every package's tests: those that start nodes here,"
        " the others beside them. Arguments go to one pytest for all: `./mbrl test -k planner`,"
        " `./mbrl test src/mbrl_core`.",
    )
    if arguments[:1] in (["-h"], ["--help"]):
        parser.print_help()
        return 0
    checks = {
        "ruff": [sys.executable, "-m", "ruff", "check", "."],
        "mypy": [sys.executable, "-m", "mypy"],
    }
    failed = [name for name, command in checks.items() if not _passes(name, command)]
    if failed:
        print(f"mbrl test: {' and '.join(failed)} failed, see above; the tests follow", flush=True)
    tests = _pytest(*arguments) if arguments else _in_two_halves()
    return tests or (1 if failed else 0)


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=root(), check=False).returncode


def _in_two_halves() -> int:
    """Both halves' exit status; what the calculations print comes after the graphs'."""
    command = [sys.executable, "-m", "pytest", "--half=calculations"]
    with tempfile.TemporaryFile("w+") as output:
        beside = subprocess.Popen(command, cwd=root(), stdout=output, stderr=subprocess.STDOUT)
        try:
            graphs = _pytest("--half=graphs")
            print("mbrl test: the calculations, which ran beside", flush=True)
            calculations = beside.wait()
        finally:
            beside.kill()
            beside.wait()
        output.seek(0)
        for line in output:
            print(line, end="")
    return graphs or calculations


def _passes(name: str, command: list[str]) -> bool:
    begin = time.monotonic()
    status = subprocess.run(command, cwd=root(), check=False).returncode
    print(f"{name}: {'passed' if status == 0 else 'FAILED'} in {time.monotonic() - begin:.1f} s", flush=True)
    return status == 0
