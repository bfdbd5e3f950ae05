# SPDX-License-Identifier: Apache-2.0
"""`./mbrl`: set-up where any is due, then the command in the private environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .clean import clean
from .handover import variables
from .places import Places, SetupError
from .setup import ensure, is_ready

USAGE = """\
Usage: ./mbrl COMMAND [ARGUMENTS]        ./mbrl COMMAND --help tells more

  demo [ROBOT] [--headless]      let a robot learn to move, live in this terminal
  launch FILE [argument:=value]  run a launch file of ROS 2
  run PACKAGE EXECUTABLE         run one node
  select CONTROLLER              say who moves a robot that is running
  teleop                         move it with the keys of this terminal
  record start|stop|label        record it, and say how an episode went
  bag info|view|merge|... BAG    look into recordings, rearrange and convert them
  train ALGORITHM [--data BAG]   have its trainer make a policy, or a reward
  reward [FILE]                  make a learned reward the task of an experiment that is running
  doctor                         say what is wrong with this machine or a running system, and what to do
  robot check|export [ROBOT]     compare its URDF and SDF with its MJCF, or write them from it
  tune planner                   fit a planner's preset to this machine
  shell                          a shell in which Python finds ROS 2 and the packages
  test [PYTEST ARGUMENTS]        ruff, mypy and the tests
  bench NAME                     a benchmark of benchmarks/
  plot RUN                       draw the pictures of a run again; --ledger: where return was lost
  replay RUN --step K            recompute a planner's decision, as it was or with something changed
  setup                          only the set-up that every command does where it is due
  clean [--runs]                 remove the environment and all that was built

The first command makes a private ROS 2 environment in .mbrl/ and builds the packages there; it takes some
minutes once. MBRL_PYTHON names the Python (3.10 to 3.13) to make it from.
"""
COMMANDS = (
    "demo", "launch", "run", "shell", "test", "bench", "plot", "replay", "select", "tune", "record", "teleop", "train",
    "reward", "bag", "doctor", "robot",
)  # fmt: skip
SETUP_USAGE = """\
Usage: ./mbrl setup

Makes the private ROS 2 environment in .mbrl/ and builds the packages: what every other command does as well
where it is due. A changed checkout has only its changed packages built. The log is .mbrl/setup.log.
"""


def main(root: str, arguments: list[str]) -> int:
    """Run one command; the result is the process's exit status."""
    places = Places(Path(root))
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    try:
        if command == "clean":
            return clean(places, rest)
        if command == "setup":
            return _setup(places, rest)
        if command not in COMMANDS:
            known = ", ".join([*COMMANDS, "setup", "clean"])
            print(f"mbrl: there is no command {command!r}; there are {known}", file=sys.stderr)
            return 2
        if _asks_only_for_help(command, rest) and not is_ready(places):
            return _help_before_setup(places, arguments)
        _mention_sourced_ros()
        ensure(places)
    except SetupError as error:
        print(f"mbrl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mbrl: interrupted; the next command takes set-up up again", file=sys.stderr)
        return 130
    program = places.sources / "mbrl_bringup" / "scripts" / "mbrl_command"
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(places.python, [str(places.python), str(program), *arguments], variables(places))


def _setup(places: Places, rest: list[str]) -> int:
    if rest:
        print(SETUP_USAGE, end="")
        return 0 if rest[0] in ("-h", "--help") else 2
    _mention_sourced_ros()
    ensure(places)
    print(f"mbrl: the environment in {places.state} is ready", file=sys.stderr)
    return 0


def _asks_only_for_help(command: str, rest: list[str]) -> bool:
    return bool(rest) and rest[0] in ("-h", "--help")


def _help_before_setup(places: Places, arguments: list[str]) -> int:
    """The command line's own modules need nothing installed to say what they do."""
    sys.path.insert(0, str(places.sources / "mbrl_bringup"))
    os.environ["MBRL_ROOT"] = str(places.root)
    from mbrl_bringup.cli import main as command_line

    try:
        return command_line(arguments)
    except ImportError:
        print(f"{USAGE}\n`./mbrl setup` first: {arguments[0]} tells the rest once its libraries are there.")
        return 0


def _mention_sourced_ros() -> None:
    release = os.environ.get("ROS_DISTRO", "")
    if release in ("jazzy", "kilted") and shutil.which("ros2"):
        print(
            f"mbrl: ROS 2 {release} is sourced here: once this workspace is built with colcon, `ros2 launch "
            "mbrl_bringup mbrl.launch.yaml` needs nothing of this. Going on in the private environment.",
            file=sys.stderr,
        )
