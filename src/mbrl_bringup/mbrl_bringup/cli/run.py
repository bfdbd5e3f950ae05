# SPDX-License-Identifier: Apache-2.0
"""`./mbrl run PACKAGE EXECUTABLE`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Replaces this process by the executable."""
    parser = argparse.ArgumentParser(
        prog="./mbrl run",
        usage="./mbrl run PACKAGE EXECUTABLE [ARGUMENTS]",
        description="Run one executable of a package, as `ros2 run` does. ROS arguments follow --ros-args: "
        "./mbrl run mbrl_robot robot_node --ros-args -p robot_file:=config/robots/cartpole.yaml",
    )
    parser.add_argument("package", metavar="PACKAGE", help="name of a package; alone, its executables are listed")
    parser.add_argument("executable", metavar="EXECUTABLE", nargs="?", help="name of one of its executables")
    parser.add_argument("rest", metavar="ARGUMENTS", nargs=argparse.REMAINDER, help="passed on")
    options = parser.parse_args(arguments)
    from ..launch_runner.packages import PackageError, executables, find_executable

    try:
        if options.executable is None:
            print("\n".join(executables(options.package)))
            return 0
        program: Path = find_executable(options.package, options.executable)
    except PackageError as error:
        print(f"mbrl run: {error}", file=sys.stderr)
        return 1
    sys.stdout.flush()
    os.execv(program, [str(program), *options.rest])
