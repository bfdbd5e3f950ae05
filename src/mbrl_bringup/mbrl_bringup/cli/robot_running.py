# SPDX-License-Identifier: Apache-2.0
"""`./mbrl robot confirm|stop`: what a person says to a real robot that runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Talk

COMMANDS = ("confirm", "stop")
# Who came later has it within this time, and who is there hears it at once.
HEARD = 0.5  # s


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds their parsers."""
    confirm = commands.add_parser(
        "confirm", help="say that a real robot is where an episode starts",
        description="Say that the robot is where an episode starts and that everybody stands clear: the service"
        " confirm_reset, with reset:=confirm. What the checks still find is said and the status 1.",
    )  # fmt: skip
    stop = commands.add_parser(
        "stop", help="publish the emergency stop, at once or when Enter is pressed",
        description="Publish emergency_stop. Only the service reset_emergency_stop clears it. This is not safety-rated:"
        " a real robot needs a stop of its own, in hardware.",
    )  # fmt: skip
    stop.add_argument(
        "--wait", action="store_true",
        help="stay ready and stop when Enter is pressed; the checks before motion ask for somebody who does",
    )  # fmt: skip
    for parser in (confirm, stop):
        parser.add_argument("--namespace", default="", help="namespace of the robot (default: none)")
        parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait at most (default: 10)")


def run(options: argparse.Namespace) -> int:
    """Returns the exit status."""
    from .client import talk

    function: Callable[[Talk, argparse.Namespace], int] = {"confirm": _confirm, "stop": _stop}[options.command]
    try:
        with talk(f"robot_{options.command}", options.namespace, options.timeout) as conversation:
            return function(conversation, options)
    except TimeoutError as error:
        print(f"mbrl robot {options.command}: {error}", file=sys.stderr)
        return 1


def _confirm(conversation: Talk, options: argparse.Namespace) -> int:
    from std_srvs.srv import Trigger

    client = conversation.node.create_client(Trigger, "confirm_reset")
    answer = conversation.call(client, Trigger.Request())
    if answer is None or not answer.success:
        print(f"mbrl robot confirm: {'no answer' if answer is None else answer.message}", file=sys.stderr)
        return 1
    print(answer.message)
    return 0


def _stop(conversation: Talk, options: argparse.Namespace) -> int:
    from std_msgs.msg import Bool

    from mbrl_ros import qos

    publisher = conversation.node.create_publisher(Bool, "emergency_stop", qos.LATCHED)
    if options.wait:
        print(
            "Enter stops the robot; Ctrl-C ends this without stopping it, and no episode goes on without it", flush=True
        )
        sys.stdin.readline()
    publisher.publish(Bool(data=True))
    try:
        conversation.wait(lambda: publisher.get_subscription_count() > 0, "robot_node to hear emergency_stop")
        # A latched message reaches those who have been found; the middleware needs a moment for it.
        conversation.wait(lambda: False, "", HEARD)
    except TimeoutError as error:
        if not publisher.get_subscription_count():
            raise TimeoutError(str(error)) from None
    print("emergency stop published; reset_emergency_stop clears it")
    return 0
