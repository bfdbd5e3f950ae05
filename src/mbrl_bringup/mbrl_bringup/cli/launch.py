# SPDX-License-Identifier: Apache-2.0
"""`./mbrl launch FILE argument:=value`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from .places import root

if TYPE_CHECKING:
    from ..launch_runner import LaunchRunner
    from ..launch_runner.description import Argument

_PACKAGE = "mbrl_bringup"


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when no node failed before the launch ended."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    words = [*options.words, *rest]
    given, names = {}, []
    for word in words:
        name, separator, value = word.partition(":=")
        if separator and name:
            given[name] = value
        else:
            names.append(word)
    if not 1 <= len(names) <= 2 or names[0].startswith("-"):
        parser.print_usage(sys.stderr)
        print("mbrl launch: expected FILE or PACKAGE FILE, then argument:=value", file=sys.stderr)
        return 2

    from ..launch_runner.packages import PackageError
    from ..launch_runner.source import LaunchFileError

    try:
        file = _find(names)
        log_directory = Path(given.get("run_directory") or _new_run(file)).absolute()
        if options.show_args:
            return _show_arguments(file, log_directory)
        if options.print_description:
            return _print_description(file, given, log_directory)
        return _run(file, given, log_directory)
    except (LaunchFileError, PackageError) as error:
        print(f"mbrl launch: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./mbrl launch",
        usage="./mbrl launch [--show-args | --print-description] FILE|PACKAGE FILE [argument:=value ...]",
        description="Run a YAML launch file as `ros2 launch` does. FILE is a path, or the name of a file in launch/ "
        "(mbrl.launch.yaml). Ctrl-C ends every node. What the runner does not support it refuses by file and line.",
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="FILE", help="launch file, then argument:=value")
    parser.add_argument("-s", "--show-args", action="store_true", help="list the launch file's arguments")
    parser.add_argument(
        "-p", "--print-description", action="store_true", help="print the nodes with their parameters as JSON"
    )
    return parser


def _find(names: list[str]) -> Path:
    from ..launch_runner.packages import share_of
    from ..launch_runner.source import LaunchFileError

    if len(names) == 2:
        candidates = [share_of(names[0]) / "launch" / names[1], share_of(names[0]) / names[1]]
    else:
        candidates = [Path(names[0]), share_of(_PACKAGE) / "launch" / names[0]]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.absolute()
    known = ", ".join(sorted(file.name for file in candidates[-1].parent.glob("*.launch.yaml"))) or "none"
    raise LaunchFileError(f"there is no launch file {' '.join(names)!r}; {candidates[-1].parent} has {known}")


def _new_run(file: Path) -> Path:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{file.name.split('.')[0]}"
    folder, number = root() / "runs" / name, 1
    while folder.exists():
        number += 1
        folder = root() / "runs" / f"{name}-{number}"
    return folder


def _show_arguments(file: Path, log_directory: Path) -> int:
    from ..launch_runner.expand import declared_arguments

    for argument in declared_arguments(file, log_directory):
        print(_argument_text(argument))
    return 0


def _argument_text(argument: Argument) -> str:
    choices = f" One of: {', '.join(argument.choices)}." if argument.choices else ""
    default = "required" if argument.default is None else f"default: {argument.default!r}"
    return f"  {argument.name}:=\n      {argument.description}{choices}\n      ({default})"


def _print_description(file: Path, given: dict[str, str], log_directory: Path) -> int:
    from ..launch_runner.expand import expand

    nodes = expand(file, given, log_directory).normal_form(log_directory)
    print(json.dumps(nodes, indent=2))
    return 0


def _run(file: Path, given: dict[str, str], log_directory: Path) -> int:
    from ..launch_runner import LaunchRunner

    runner = LaunchRunner(file, given, log_directory, output=_Screen())
    print(f"mbrl launch: {len(runner.description.nodes)} nodes, log in {log_directory / 'launch.log'}", flush=True)
    _stop_on_signals(runner)
    with runner:
        while (status := runner.wait(1.0)) is None:
            pass
    return status


def _stop_on_signals(runner: LaunchRunner) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        runner.request_stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


class _Screen:
    """Prints lines until nobody reads them any more; then ends the launch, like any filter in a pipe."""

    def __call__(self, line: str) -> None:
        try:
            print(line, flush=True)
        except (BrokenPipeError, ValueError):
            os.kill(os.getpid(), signal.SIGTERM)
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
