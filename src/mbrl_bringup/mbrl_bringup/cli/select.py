# SPDX-License-Identifier: Apache-2.0
"""`./mbrl select CONTROLLER`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Talk


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when the controller is selected and, while an episode runs, serves."""
    parser = argparse.ArgumentParser(
        prog="./mbrl select",
        description="Select who moves a robot that is running: the service select_controller. It waits until the"
        " controller serves. ROS_DOMAIN_ID has to be that of the robot; `./mbrl demo` prints it.",
    )
    parser.add_argument("controller", metavar="CONTROLLER", help="planner, planner_b, explore, policy, teleop or safe")
    parser.add_argument("--namespace", default="", help="namespace of the robot (default: none)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait at most (default: 10)")
    options = parser.parse_args(arguments)
    from .client import talk

    try:
        with talk("select", options.namespace, options.timeout) as conversation:
            return _select(conversation, options.controller)
    except TimeoutError as error:
        print(f"mbrl select: {error}", file=sys.stderr)
        return 1


def _select(conversation: Talk, controller: str) -> int:
    from mbrl_msgs.msg import ControllerState
    from mbrl_msgs.srv import SelectController
    from mbrl_ros import qos

    node = conversation.node
    states: list[ControllerState] = []
    node.create_subscription(ControllerState, "controller_state", states.append, qos.LATCHED)

    def settled() -> bool:
        if not states or states[-1].selected != controller:
            return False
        return states[-1].active == controller or "no episode" in states[-1].reason

    client = node.create_client(SelectController, "select_controller")
    answer = conversation.call(client, SelectController.Request(controller=controller))
    if answer is None or not answer.success:
        print(f"mbrl select: {'no answer' if answer is None else answer.message}", file=sys.stderr)
        return 1
    conversation.wait(settled, f"{controller!r} to serve, which has been selected")
    print(f"{controller} is selected; {states[-1].active} serves: {states[-1].reason}")
    return 0
