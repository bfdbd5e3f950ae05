# SPDX-License-Identifier: Apache-2.0
"""`./mbrl select CONTROLLER`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable


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
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        return _select(options.controller, options.namespace, options.timeout)
    except TimeoutError as error:
        print(f"mbrl select: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()


def _select(controller: str, namespace: str, timeout: float) -> int:
    import rclpy

    from mbrl_msgs.msg import ControllerState
    from mbrl_msgs.srv import SelectController
    from mbrl_ros import qos

    node = rclpy.create_node("select", namespace=namespace or None)
    states: list[ControllerState] = []
    node.create_subscription(ControllerState, "controller_state", states.append, qos.LATCHED)
    client = node.create_client(SelectController, "select_controller")
    end = time.monotonic() + timeout

    def wait(condition: Callable[[], bool], what: str) -> None:
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {timeout:g} s for {what}")
            rclpy.spin_once(node, timeout_sec=0.02)

    def settled() -> bool:
        if not states or states[-1].selected != controller:
            return False
        return states[-1].active == controller or "no episode" in states[-1].reason

    try:
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        wait(client.service_is_ready, f"the service {client.srv_name} in ROS domain {domain}")
        future = client.call_async(SelectController.Request(controller=controller))
        wait(future.done, "an answer of select_controller")
        answer = future.result()
        if answer is None or not answer.success:
            print(f"mbrl select: {'no answer' if answer is None else answer.message}", file=sys.stderr)
            return 1
        wait(settled, f"{controller!r} to serve, which has been selected")
        print(f"{controller} is selected; {states[-1].active} serves: {states[-1].reason}")
        return 0
    finally:
        node.destroy_node()
