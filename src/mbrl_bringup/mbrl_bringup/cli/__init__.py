# SPDX-License-Identifier: Apache-2.0
"""The commands of `./mbrl` that run in the environment. Each module has `main(arguments) -> exit status`.

Nothing here imports more than the standard library before it has read its arguments, so that `--help` answers
on a machine where nothing is installed yet.
"""

from __future__ import annotations

import importlib
import sys

COMMANDS = (
    "bag", "bench", "demo", "doctor", "launch", "plot", "record", "replay", "reward", "robot", "run", "select", "shell",
    "teleop", "test", "train", "tune",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run the command that the first argument names. Returns the exit status."""
    if not arguments or arguments[0] not in COMMANDS:
        print(f"mbrl: expected one of the commands {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"mbrl_bringup.cli.{arguments[0]}")
    try:
        return int(module.main(arguments[1:]))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
