# SPDX-License-Identifier: Apache-2.0
"""`./mbrl robot export|check|new|delay|confirm|stop`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import robot_new, robot_running
from .places import root

if TYPE_CHECKING:
    from mbrl_core.robot_description.check import Report
    from mbrl_core.robot_description.export import Folders
    from mbrl_core.robot_description.mujoco_tree import CompiledRobot


def main(arguments: list[str]) -> int:
    """Returns the exit status: 1 where descriptions differ or cannot be read or written."""
    if arguments[:1] == ["delay"]:
        from .robot_delay import main as measure

        return measure(arguments[1:])
    options = parser().parse_args(arguments)
    if options.command == "new":
        return robot_new.main(options)
    if options.command in robot_running.COMMANDS:
        return robot_running.run(options)

    from mbrl_core.robot_description.tree import DescriptionError
    from mbrl_core.specs import SpecError

    try:
        return _export(options) if options.command == "export" else _check(options)
    except (DescriptionError, SpecError, OSError) as error:
        print(f"mbrl robot {options.command}: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Of its arguments."""
    parser = argparse.ArgumentParser(
        prog="./mbrl robot",
        description="One robot in three formats: the MJCF is the source, URDF, SDF and Gazebo's files are written from"
        " it. And what a person says to a real one that runs.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, robots: str, many: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.add_argument("robots", metavar="ROBOT", nargs=many, help=f"name in config/robots, or robot file{robots}")
        made.add_argument(
            "--folder", type=Path, metavar="FOLDER",
            help="where the files are, in folders urdf, sdf and gazebo (default: src/mbrl_description, config/gazebo)",
        )  # fmt: skip
        return made

    command("export", "write URDF, SDF, bridge and controllers from the compiled MJCF", "", "+")
    check = command(
        "check", "compare URDF and SDF with the compiled MJCF; the first difference is named and the status 1",
        " (default: all shipped ones)", "*",
    )  # fmt: skip
    check.add_argument(
        "--dart", action="store_true",
        help="also compare 2 s of motion in DART, Gazebo's physics, with MuJoCo's (Debian: python3-dartpy)",
    )  # fmt: skip
    check.add_argument(
        "--dart-python", default="/usr/bin/python3", metavar="PROGRAM",
        help="the Python that has dartpy (default: /usr/bin/python3)",
    )  # fmt: skip
    check.add_argument("--seed", type=int, default=0, help="of the random configurations (default: 0)")
    # Has options of its own: `main` hands it over before this parser reads them.
    commands.add_parser("delay", help="measure how late a robot that is running answers its commands")
    robot_running.add_commands(commands)
    robot_new.add_command(commands)
    return parser


def _folders(options: argparse.Namespace) -> Folders:
    from mbrl_core.robot_description.export import Folders

    if options.folder is not None:
        return Folders(options.folder, options.folder / "gazebo")
    return Folders(root() / "src" / "mbrl_description", root() / "config" / "gazebo")


def _compiled(name: str) -> CompiledRobot:
    from mbrl_core.robot_description.mujoco_tree import compile_robot
    from mbrl_core.robot_file import load_robot

    shipped = root() / "config" / "robots" / f"{name}.yaml"
    return compile_robot(load_robot(name if Path(name).suffix else shipped))


def _shipped() -> list[str]:
    """The robots whose files are named after them; others share theirs, as the cart-pole at 50 Hz does."""
    from mbrl_core.robot_file import load_robot

    files = sorted((root() / "config" / "robots").glob("*.yaml"))
    return [file.stem for file in files if (mjcf := load_robot(file).mjcf) is not None and mjcf.stem == file.stem]


def _export(options: argparse.Namespace) -> int:
    from mbrl_core.robot_description.export import files_of, not_for_gazebo

    for name in options.robots:
        compiled = _compiled(name)
        for path, text in files_of(compiled, _folders(options)).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
        if remark := not_for_gazebo(compiled):
            print(f"mbrl robot export: not for Gazebo: {remark}", file=sys.stderr)
    return 0


def _check(options: argparse.Namespace) -> int:
    from mbrl_core.robot_description.check import check

    folders = _folders(options)
    differ = False
    for name in options.robots or _shipped():
        compiled = _compiled(name)
        files = (folders.urdf(compiled.tree.name), folders.sdf(compiled.tree.name))
        reports = [check(compiled, path, options.seed) for path in files]
        _print(compiled, reports)
        messages = [report.message() for report in reports]
        if options.dart:
            messages += _in_dart(compiled, files, options)
        print(flush=True)
        for message in filter(None, messages):
            differ = True
            print(f"mbrl robot check: {message}", file=sys.stderr)
    return 1 if differ else 0


def _in_dart(compiled: CompiledRobot, files: tuple[Path, ...], options: argparse.Namespace) -> list[str]:
    """Prints what DART makes of the files; returns the differences."""
    from mbrl_core.robot_description.dart import GAZEBO_STEP, compare_in_dart

    at_step = f"at {1000.0 * GAZEBO_STEP:g} ms"
    print(f"  {'in DART, of the range':<30}{at_step:>12}{'extrapolated':>14}{'tolerance':>12}")
    messages = []
    for path in files:
        report = compare_in_dart(compiled, path, options.dart_python, options.seed)
        for motion in report.motions:
            name = f"{path.suffix[1:]}, {motion.motion} motion"
            print(f"  {name:<30}{motion.at_gazebo_step:>12.1e}{motion.difference:>14.1e}{motion.tolerance:>12.1e}")
        name = f"{path.suffix[1:]}, mass matrix and gravity"
        print(f"  {name:<30}{report.dynamics:>12.1e}")
        messages.append(report.message())
    return messages


def _print(compiled: CompiledRobot, reports: list[Report]) -> None:
    """A table: the largest relative difference of each quantity."""
    from mbrl_core.robot_description.check import CONFIGURATIONS, QUANTITIES, TOLERANCE

    tree = compiled.tree
    print(
        f"{compiled.robot.spec.name}: largest relative difference from {tree.source.name}, at most {TOLERANCE:g};"
        f" the last two rows at {CONFIGURATIONS} configurations"
    )
    print(f"  {'':<18}" + "".join(f"{report.path.suffix[1:]:>12}" for report in reports))
    for quantity in QUANTITIES:
        worst = [report.worst(quantity) for report in reports]
        cells = ("-" if value is None else "differ" if value == float("inf") else f"{value:.1e}" for value in worst)
        print(f"  {quantity:<18}" + "".join(f"{cell:>12}" for cell in cells))
