# SPDX-License-Identifier: Apache-2.0
"""Other projects to compare with, in an environment of their own, as workers that answer JSON.

The environment `.mbrl/baselines` is made on first use from requirements-baselines.txt; torch, numpy and what else is
large comes from the environment that the benchmark itself runs in, so that both sides compute with the same libraries.
"""

import json
import subprocess
import sys
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
    # Workers import this file in that environment, which has no package of this project.
    from mbrl_core.library_environment import LibraryEnvironmentError, library_python

    try:
        python = library_python(ENVIRONMENT, REQUIREMENTS, "the baselines")
    except LibraryEnvironmentError as error:
        raise BaselineError(str(error)) from None
    assert python is not None  # made where it was missing
    return python


class BaselineWorker:
    """A script of this folder, running in the baselines' environment.

    It is asked one JSON value a line on stdin and answers one a line on stdout (see `serve`). Use as a context manager.
    """

    def __init__(self, script: str, variables: Mapping[str, str] | None = None) -> None:
        self._script = script
        from mbrl_core.library_environment import clean_variables

        command = [str(baseline_python()), str(FOLDER / script)]
        self._process = subprocess.Popen(
            command,
            env={**clean_variables(), **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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
