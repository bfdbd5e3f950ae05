# SPDX-License-Identifier: Apache-2.0
"""Stands in for ros_gz_bridge: bridges the topics of its file between ROS and the stand-in's transport."""

import contextlib
import signal
import sys

import rclpy
import yaml
from rclpy.executors import ExternalShutdownException
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64

TYPES = {
    ("rosgraph_msgs/msg/Clock", "gz.msgs.Clock"): Clock,
    ("sensor_msgs/msg/JointState", "gz.msgs.Model"): JointState,
    ("std_msgs/msg/Float64", "gz.msgs.Double"): Float64,
}
TRANSPORT = "/gz_transport"

rclpy.init()
node = rclpy.create_node("bridge")
file = node.declare_parameter("config_file", "").value
if not file:
    # Services by arguments: messages of ros_gz_interfaces are not there.
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    sys.exit(0)
with open(file, encoding="utf-8") as stream:
    entries = yaml.safe_load(stream)
for entry in entries:
    kind = TYPES[entry["ros_type_name"], entry["gz_type_name"]]
    names = [TRANSPORT + entry["gz_topic_name"], entry["ros_topic_name"]]
    source, target = names if entry["direction"] == "GZ_TO_ROS" else names[::-1]
    publisher = node.create_publisher(kind, target, 10)
    node.create_subscription(kind, source, publisher.publish, 10)
with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(node)
