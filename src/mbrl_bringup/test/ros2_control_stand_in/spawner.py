# SPDX-License-Identifier: Apache-2.0
"""`spawner CONTROLLER ... --param-file FILE`: loads, configures and activates, then ends with 0; 1 where it cannot."""

import argparse
import sys
from pathlib import Path

import rclpy
from rclpy.node import Node
from std_srvs.srv import Trigger


def main() -> int:
    """Returns the exit status."""
    rclpy.init()
    parser = argparse.ArgumentParser()
    parser.add_argument("controllers", nargs="+")
    parser.add_argument("-c", "--controller-manager", default="controller_manager")
    parser.add_argument("-p", "--param-file", action="append", default=[])
    options = parser.parse_args(rclpy.utilities.remove_ros_args(sys.argv)[1:])
    for file in options.param_file:
        if not Path(file).is_file():
            raise FileNotFoundError(file)
    node = Node(f"spawner_{options.controllers[0]}")
    try:
        for controller in options.controllers:
            if not _activate(node, f"{options.controller_manager}/activate_{controller}"):
                node.get_logger().fatal(f"Failed loading controller {controller}")
                return 1
            node.get_logger().info(f"Configured and activated {controller}")
    except KeyboardInterrupt:
        return 0
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _activate(node: Node, service: str) -> bool:
    client = node.create_client(Trigger, service)
    # The real one waits for the manager for ever, too, and calls again where no answer comes.
    while True:
        while not client.wait_for_service(0.5):
            node.get_logger().info(f"waiting for service {client.srv_name} to become available...")
        future = client.call_async(Trigger.Request())
        rclpy.spin_until_future_complete(node, future, timeout_sec=2.0)
        if future.done():
            return bool(future.result().success)
