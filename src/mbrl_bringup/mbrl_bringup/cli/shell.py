# SPDX-License-Identifier: Apache-2.0
"""`./mbrl shell`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Replaces this process by a shell, or by the command given."""
    parser = argparse.ArgumentParser(
        prog="./mbrl shell",
        description="An interactive shell with the environment's variables; `./mbrl shell -- COMMAND ...` runs one "
        "command with them instead.",
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="a command to run instead of a shell")
    command = parser.parse_args(arguments).command
    sys.stdout.flush()
    if command:
        try:
            os.execvp(command[0], command)
        except FileNotFoundError:
            print(f"mbrl shell: there is no command {command[0]!r}", file=sys.stderr)
            return 127
    shell = os.environ.get("SHELL") or "/bin/bash"
    print("mbrl: Python, colcon and the packages of this checkout are on the path; `exit` leaves", file=sys.stderr)
    if Path(shell).name == "bash":
        # The user's start-up file would put its own PATH first again and set the prompt.
        os.execvp(shell, [shell, "--rcfile", str(Path(__file__).with_name("shell_start.bash")), "-i"])
    os.execvp(shell, [shell, "-i"])
    raise AssertionError("exec returned")
