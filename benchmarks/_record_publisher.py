# SPDX-License-Identifier: Apache-2.0
"""Publishes numbered messages at their rates and notes when each was published: what a recorder has to keep.

A process of its own, with precedence over others where the system permits it: rates are kept while the recorder works.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import RobotSpec
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_ros import qos
from mbrl_ros.conversions import plan_to_message, spec_to_message, time_step_to_message

HEIGHT, WIDTH = 480, 640
JPEG_BYTES = 60_000  # of a picture of this size at quality 90
EPISODE = 1


def main() -> int:
    """Publishes until SIGTERM, then writes the times to `--notes`; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot-file", type=Path, required=True)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--picture-rate", type=float, default=30.0)
    parser.add_argument("--raw", action="store_true", help="pictures uncompressed")
    parser.add_argument("--subscribers", type=int, default=1, help="wait for so many of time_step")
    options = parser.parse_args()
    stop = False

    def end(number: int, frame: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, end)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("robot")
    spec = load_robot(options.robot_file).spec
    specs = node.create_publisher(RobotSpec, "robot_spec", qos.LATCHED)
    specs.publish(spec_to_message(spec, node.get_clock().now().to_msg()))
    steps = node.create_publisher(TimeStepMessage, "time_step", qos.TIME_STEP_RECORD)
    plans = node.create_publisher(PlanMessage, "plan", qos.PLAN)
    picture_class, topic = (Image, "camera/raw") if options.raw else (CompressedImage, "camera/compressed")
    pictures = node.create_publisher(picture_class, topic, 30)
    publishers = (steps, plans, pictures)
    while not stop and min(item.get_subscription_count() for item in publishers) < options.subscribers:
        time.sleep(0.05)
    time.sleep(1.0)  # they may have found us before we have found them
    stamp = node.get_clock().now().to_msg()
    random = np.random.default_rng(0)
    step = time_step_to_message(
        TimeStep(
            episode=EPISODE, step=1, step_type=StepType.MID, state=random.normal(size=spec.state.size),
            action=random.normal(size=spec.action.size), committed_actions=np.zeros((1, spec.action.size)),
        ),
        spec.interface_hash,
        stamp,
    )  # fmt: skip
    plan = plan_to_message(
        Plan(random.normal(size=(25, spec.action.size)), random.normal(size=(26, spec.state.size))),
        spec.interface_hash,
        stamp,
        episode=EPISODE,
        start_step=0,
        answers_step=0,
        controller="planner",
        producer="bench",
    )
    if options.raw:
        picture = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
        picture.data = random.bytes(3 * WIDTH * HEIGHT)
    else:
        picture = CompressedImage(format="jpeg")
        picture.data = random.bytes(JPEG_BYTES)
    times: dict[str, list[int]] = {"time_step": [], "plan": [], "picture": []}
    begin = time.monotonic()
    number = shown = 0
    while not stop:
        due = begin + number / options.rate
        wait = due - time.monotonic()
        if wait > 0.0:
            time.sleep(wait)
        step.step = plan.answers_step = number
        times["time_step"].append(time.time_ns())
        steps.publish(step)
        times["plan"].append(time.time_ns())
        plans.publish(plan)
        if shown <= (time.monotonic() - begin) * options.picture_rate:
            picture.header.frame_id = str(shown)
            times["picture"].append(time.time_ns())
            pictures.publish(picture)
            shown += 1
        number += 1
    options.notes.write_text(json.dumps({"times": times}), encoding="utf-8")
    for publisher in publishers[:2]:
        publisher.wait_for_all_acked(Duration(seconds=2.0))
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
