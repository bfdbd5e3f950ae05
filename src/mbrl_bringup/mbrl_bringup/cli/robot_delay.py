# SPDX-License-Identifier: Apache-2.0
"""`./mbrl robot delay`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .places import root

if TYPE_CHECKING:
    from mbrl_bringup.delay_measurement import Measured
    from mbrl_core.robot_file import Robot
    from mbrl_robot.delay_probe import JointDelay


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when a delay was found."""
    options = _parser().parse_args(arguments)

    from mbrl_bringup.delay_measurement import MeasurementFailed
    from mbrl_core.robot_file import load_robot
    from mbrl_core.specs import SpecError

    try:
        path = Path(options.robot)
        if not path.suffix:
            path = root() / "config" / "robots" / f"{options.robot}.yaml"
        robot = load_robot(path)
        actions = _actions(robot, options.joints)
        if not options.yes and not _confirmed(robot, actions, options):
            print("mbrl robot delay: nothing was sent", file=sys.stderr)
            return 1
        return _measure(robot, path, actions, options)
    except (MeasurementFailed, SpecError, TimeoutError, OSError, ValueError) as error:
        print(f"mbrl robot delay: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./mbrl robot delay",
        description="Measure a robot's own delay, from the publication of a command to its effect in joint_states, on a"
        " system that is running in real time: backend and robot_node. It begins an episode of its own in which one"
        " joint at a time is moved to and fro. ROS_DOMAIN_ID has to be that of the robot.",
    )
    parser.add_argument("--robot", default="cartpole", help="name in config/robots, or robot file (default: cartpole)")
    parser.add_argument("--joints", nargs="+", metavar="JOINT", help="of the actions to move (default: all)")
    parser.add_argument(
        "--amplitude", type=float, default=0.2, help="share of half an action's range (default: 0.2)"
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=12.0, help="for each joint (default: 12)")
    parser.add_argument("--longest", type=float, default=0.3, help="seconds; longest delay looked for (default: 0.3)")
    parser.add_argument("--seed", type=int, default=0, help="of what is sent (default: 0)")
    parser.add_argument("--yes", action="store_true", help="the robot may move: do not ask")
    parser.add_argument("--write", action="store_true", help="write the delay into the robot file")
    parser.add_argument("--namespace", default="", help="namespace of the robot (default: none)")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds to wait for each answer (default: 15)")
    return parser


def _actions(robot: Robot, joints: list[str] | None) -> list[int]:
    names = robot.spec.action.names
    for joint in joints or ():
        if joint not in names:
            raise ValueError(f"--joints {joint}: expected joints that are driven: {', '.join(names)}")
    return [index for index, name in enumerate(names) if not joints or name in joints]


def _confirmed(robot: Robot, actions: list[int], options: argparse.Namespace) -> bool:
    spec = robot.spec.action
    print(f"{robot.spec.name} is going to move by itself. Each joint in turn gets, for {options.seconds:g} s:")
    for action in actions:
        half = 0.5 * options.amplitude * (spec.upper[action] - spec.lower[action]) * abs(spec.scale[action])
        print(f"  {spec.names[action]}: {spec.interfaces[action]} of up to +-{half:g} {spec.units[action]}")
    print("Keep clear of it, and a hand on its emergency stop.")
    if not sys.stdin.isatty():
        raise ValueError("nobody is there to be asked; --yes says that the robot may move")
    return input("Type yes to go on: ").strip() == "yes"


def _measure(robot: Robot, path: Path, actions: list[int], options: argparse.Namespace) -> int:
    if not 0.0 < options.amplitude <= 1.0:
        raise ValueError(f"--amplitude {options.amplitude:g}: expected above 0 and at most 1")
    if not options.seconds > 0.0 or not robot.spec.period <= options.longest <= 0.25 * options.seconds:
        raise ValueError(
            f"--longest {options.longest:g}: expected between the control period, {robot.spec.period:g} s, and a"
            f" quarter of --seconds {options.seconds:g}"
        )
    from mbrl_bringup.delay_measurement import CONTROLLER, DelayMeasurement
    from mbrl_robot.delay_probe import Excitation, joint_delay

    from .client import talk

    excitation = Excitation(robot, actions, options.amplitude, options.seconds, options.seed)
    with talk(CONTROLLER, options.namespace, options.timeout) as conversation:
        measured = DelayMeasurement(conversation.node, robot, excitation, conversation.wait).run(options.timeout)
    found = [
        joint_delay(part, robot, action, options.longest)
        for part, action in zip(measured.parts, actions, strict=True)
    ]  # fmt: skip
    return _report(robot, path, found, measured, options)


def _report(
    robot: Robot, path: Path, found: list[JointDelay], measured: Measured, options: argparse.Namespace
) -> int:  # fmt: skip
    from mbrl_core.robot_file_edit import write_delay
    from mbrl_robot.delay_probe import WORTH_STATING, overall_delay

    period = robot.spec.period
    print(f"{'joint':<20}{'delay':>10}{'95 %':>22}{'periods':>9}{'explained':>11}")
    for joint in found:
        estimate = joint.estimate
        if estimate is None:
            print(f"{joint.joint:<20}  {joint.reason}")
            continue
        interval = f"{estimate.lower * 1e3:.2f} to {estimate.upper * 1e3:.2f} ms"
        print(
            f"{joint.joint:<20}{estimate.delay * 1e3:>7.2f} ms{interval:>22}{estimate.delay / period:>9.2f}"
            f"{100.0 * estimate.explained:>9.1f} %"
        )
    if not measured.clock_is_ours:
        print("joint_states are stamped by another clock: their publication counts instead")
    else:
        print(f"from the stamp of joint states to their publication: {measured.stamped_ago * 1e3:.2f} ms more")
    print(f"from the publication of joint states to their arrival: {measured.travelled * 1e3:.2f} ms more")
    overall = overall_delay(found)
    if overall is None:
        print("mbrl robot delay: no joint answered in a way that says how late", file=sys.stderr)
        return 1
    print(
        f"overall {overall.delay * 1e3:.2f} ms ({overall.lower * 1e3:.2f} to {overall.upper * 1e3:.2f} ms),"
        f" {overall.delay / period:.2f} control periods"
    )
    if not overall.agree:
        print("the joints differ by more than chance: what is stated is one delay for all of them", file=sys.stderr)
    if overall.delay < WORTH_STATING * period:
        print(f"less than {WORTH_STATING:.0%} of the control period: nothing to state")
        value = 0.0
    else:
        value = round(overall.delay, 4)
        print(f"in {path.name}:\n  control: {{delay: {value:g}}}")
    if value != robot.spec.delay and not options.write:
        print(f"it says {robot.spec.delay:g} now; --write changes it")
    if options.write:
        write_delay(path, value)
        print(f"written into {path}")
    return 0
