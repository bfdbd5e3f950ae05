# SPDX-License-Identifier: Apache-2.0
"""`./mbrl robot new NAME --mjcf FILE | --urdf FILE`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `new` to the commands of `./mbrl robot`."""
    text = "write robot file, first task, tuning and controllers for a robot that the suite has never seen"
    made = commands.add_parser("new", help=text, description=f"{text[0].upper()}{text[1:]}.")
    made.add_argument("name", metavar="NAME", help="what the robot is called: letters, digits, _")
    origin = made.add_mutually_exclusive_group(required=True)
    origin.add_argument("--mjcf", type=Path, metavar="FILE", help="MuJoCo's description; it stays where it is")
    origin.add_argument("--urdf", type=Path, metavar="FILE", help="URDF, or xacro; an MJCF is written from it")
    made.add_argument("--folder", type=Path, metavar="FOLDER", help="where to write (default: robots/NAME)")
    made.add_argument("--period", type=float, metavar="SECONDS", help="control period (default: from the dynamics)")
    made.add_argument("--tip", default="", metavar="SITE", help="site or body that is the tip (default: the end)")
    made.add_argument(
        "--goal", default="", metavar="GOAL",
        help="x,y,z of the tip in m, or joint=value,joint=value in m or rad (default: docs/new_robot.md says which)",
    )  # fmt: skip
    made.add_argument(
        "--interface", choices=("effort", "velocity", "position"), default="",
        help="of a URDF: what drives its joints, whatever it says itself",
    )  # fmt: skip
    made.add_argument("--fix", default="", metavar="JOINTS", help="of a URDF: joints that are held at 0, joint,joint")
    made.add_argument("--force", action="store_true", help="write over files that are there")


def main(options: argparse.Namespace) -> int:
    """Writes the files; returns the exit status."""
    from mbrl_core.config import ConfigurationError
    from mbrl_core.new_robot.source import NewRobotError
    from mbrl_core.robot_description.tree import DescriptionError
    from mbrl_core.specs import SpecError

    try:
        return _new(options)
    except (NewRobotError, ConfigurationError, DescriptionError, SpecError, OSError, ValueError) as error:
        print(f"mbrl robot new: {error}", file=sys.stderr)
        return 1


def _new(options: argparse.Namespace) -> int:
    from mbrl_core.new_robot.descriptions import differences_from_urdf
    from mbrl_core.new_robot.source import NewRobotError
    from mbrl_core.new_robot.write import Wishes, write_robot

    if not NAME.fullmatch(options.name):
        raise NewRobotError(f"name: got {options.name!r}, expected letters, digits and _, a letter first")
    folder: Path = options.folder or Path("robots") / options.name
    robot_file = folder / f"{options.name}.yaml"
    if robot_file.exists() and not options.force:
        raise NewRobotError(f"{robot_file} is there already; --force writes over it")
    goal, joint_goals = _goal(options.goal)
    wishes = Wishes(options.period, options.tip, goal, joint_goals)
    if options.urdf is not None:
        from mbrl_core.new_robot.from_urdf import mjcf_of_urdf

        fix = [name.strip() for name in options.fix.split(",") if name.strip()]
        target = folder / f"{options.name}.xml"
        made = mjcf_of_urdf(options.urdf, target, options.name, options.interface, fix)
        for remark in made.remarks:
            print(f"mbrl robot new: {remark}", file=sys.stderr)
        new = write_robot(options.name, made.path, folder, wishes, str(options.urdf), made.speeds)
        print(made.path)
        if difference := differences_from_urdf(robot_file, made.urdf_text):
            print(f"mbrl robot new: differs from the URDF: {difference}", file=sys.stderr)
    else:
        new = write_robot(options.name, options.mjcf, folder, wishes, str(options.mjcf))
    for remark in new.remarks:
        print(f"mbrl robot new: {remark}", file=sys.stderr)
    for path in new.files:
        print(path)
    print(f"{new.task.why}\n./mbrl launch mbrl.launch.yaml robot:={robot_file} trials:={new.task.trials}")
    return 0


def _goal(text: str) -> tuple[tuple[float, ...], dict[str, float]]:
    """A point, or joints with their targets."""
    from mbrl_core.new_robot.source import NewRobotError

    if not text:
        return (), {}
    parts = [part.strip() for part in text.split(",")]
    try:
        if "=" in text:
            pairs = [part.partition("=") for part in parts]
            return (), {name.strip(): float(value) for name, _, value in pairs}
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        raise NewRobotError(f"goal: got {text!r}, expected x,y,z in m, or joint=value,joint=value")
    return numbers, {}
