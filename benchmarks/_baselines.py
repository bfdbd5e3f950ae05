# SPDX-License-Identifier: Apache-2.0
"""Other projects to compare with, in an environment of their own, as workers that answer JSON.

The environment `.mbrl/baselines` is made on first use from requirements-baselines.txt; torch, numpy and what else is
large comes from the environment that the benchmark itself runs in, so that both sides compute with the same libraries.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = Path(__file__).resolve().parent
ENVIRONMENT = FOLDER.parent / ".mbrl" / "baselines"
REQUIREMENTS = FOLDER / "requirements-baselines.txt"


class BaselineError(RuntimeError):
    """The environment could not be made, or a worker failed; the text has what it printed last."""


def baseline_python() -> Path:
    """Interpreter of the baselines' environment, which is made first where it is missing or out of date.

    Raises BaselineError when pip fails.
    """
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "stamp"
    shared = sysconfig.get_paths()["purelib"]
    wanted = hashlib.sha256("\0".join([REQUIREMENTS.read_text("utf-8"), shared, sys.version]).encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text("utf-8") == wanted:
        return python
    print(f"making {ENVIRONMENT} for the baselines", file=sys.stderr, flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    interpreter = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    _run([str(interpreter), "-m", "venv", str(ENVIRONMENT)])
    pip = [str(python), "-m", "pip", "install", "--no-deps", "--no-compile", "--no-input", "--progress-bar", "off"]
    _run([*pip, "-r", str(REQUIREMENTS)])
    # After pip has run, which would otherwise look at the shared libraries as well; they come last on the path.
    own = ENVIRONMENT / "lib" / interpreter.name / "site-packages"
    (own / "shared_libraries.pth").write_text(f"{shared}\n", encoding="utf-8")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, env=_variables(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-3000:]
        raise BaselineError(f"{' '.join(command[:4])} ended with {done.returncode}:\n{output}")


def _variables() -> dict[str, str]:
    """The process's variables less those that would bring this project's packages and ROS into a baseline."""
    foreign = ("PYTHON", "AMENT_", "CMAKE_PREFIX", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


class BaselineWorker:
    """A script of this folder, running in the baselines' environment.

    It is asked one JSON value a line on stdin and answers one a line on stdout (see `serve`). Use as a context manager.
    """

    def __init__(self, script: str, variables: Mapping[str, str] | None = None) -> None:
        self._script = script
        command = [str(baseline_python()), str(FOLDER / script)]
        self._process = subprocess.Popen(
            command, env={**_variables(), **(variables or {})}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: Any) -> Any:
        """The worker's answer. Raises BaselineError when it ended instead; its own error is on stderr."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            raise BaselineError(f"{self._script} ended with {status} while it was asked {question!r:.300}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the worker."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "BaselineWorker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(answer: Callable[[Any], Any]) -> None:
    """For worker scripts: answers each line of stdin by `answer(question)` on stdout until stdin closes.

    Whatever else is printed meanwhile goes to stderr, so that libraries that print do not break the protocol.
    """
    output, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        output.write(json.dumps(answer(json.loads(line))) + "\n")
        output.flush()
