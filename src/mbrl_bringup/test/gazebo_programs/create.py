# SPDX-License-Identifier: Apache-2.0
"""Stands in for ros_gz_sim's `create`: spawns the one robot that the stand-in of Gazebo has."""

import sys
from xml.etree import ElementTree

import rclpy
from std_srvs.srv import Trigger

rclpy.init()
node = rclpy.create_node("create")
world, file, name = (node.declare_parameter(key, "").value for key in ("world", "file", "name"))
model = ElementTree.parse(file).find("model")
if world != "mbrl" or model is None or model.get("name") != name:
    sys.exit(f"create: world {world!r}, model {name!r} of {file}")
client = node.create_client(Trigger, "/gzserver/create")
if not client.wait_for_service(20.0):
    sys.exit("create: there is no Gazebo")
future = client.call_async(Trigger.Request())
rclpy.spin_until_future_complete(node, future, timeout_sec=20.0)
response = future.result()
if response is None or not response.success:
    sys.exit(f"create: there is a model {name!r} already")
