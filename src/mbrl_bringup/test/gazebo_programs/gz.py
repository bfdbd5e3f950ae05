# SPDX-License-Identifier: Apache-2.0
"""Stands in for the command `gz service` with the two calls that a reset makes."""

import sys

import rclpy
from std_srvs.srv import Trigger

EXPECTED = {
    "/world/mbrl/control": ("gz.msgs.WorldControl", "reset: {all: true}", "reset"),
    "/world/mbrl/remove": ("gz.msgs.Entity", 'name: "pendulum" type: MODEL', "remove"),
}
words = sys.argv[1:]
given = dict(zip(words[1::2], words[2::2], strict=True))
kind, request, service = EXPECTED[given["-s"]]
if (words[0], given["--reqtype"], given["--reptype"], given["--req"]) != ("service", kind, "gz.msgs.Boolean", request):
    sys.exit(f"gz: {words}")
rclpy.init()
node = rclpy.create_node("gz")
client = node.create_client(Trigger, f"/gzserver/{service}")
if not client.wait_for_service(5.0):
    print("Service call timed out")
    sys.exit(0)
future = client.call_async(Trigger.Request())
rclpy.spin_until_future_complete(node, future, timeout_sec=5.0)
response = future.result()
print(f"data: {'true' if response is not None and response.success else 'false'}")
