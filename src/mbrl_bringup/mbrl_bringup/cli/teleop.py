# SPDX-License-Identifier: Apache-2.0
"""`./mbrl teleop`: the keyboard of this terminal as a joystick."""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mbrl_msgs.msg import ControllerState, TimeStep

PERIOD = 0.05
QUIT = ("q", "\x03", "\x04")
HELP = """\
Keep a key of motion pressed, or space: that is the dead-man button, and teleop moves the robot as long as you do.
  left right (h l)   first axis        enter  start an episode
  down up    (j k)   second axis       s f d  end it: success, failure, discard
  1 ... 9, 0         a tenth ... nine tenths, all of the deflection        q  quit
"""


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="./mbrl teleop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Publish the keys of this terminal on the topic joy, for teleop_node. Keys also come from a pipe."
        " ROS_DOMAIN_ID has to be that of the robot.",
        epilog=HELP,
    )
    parser.add_argument("--namespace", default="", help="namespace of the robot (default: none)")
    options = parser.parse_args(arguments)
    from .client import talk

    with talk("keyboard", options.namespace, 10.0) as conversation, _raw_terminal() as terminal:
        import rclpy
        from sensor_msgs.msg import Joy

        from mbrl_msgs.msg import ControllerState, TimeStep
        from mbrl_policy.teleop.keyboard import KeyboardJoystick, split_keys
        from mbrl_ros import qos

        node, keyboard = conversation.node, KeyboardJoystick()
        states: list[ControllerState] = []
        steps: list[TimeStep] = []
        node.create_subscription(ControllerState, "controller_state", states.append, qos.LATCHED)
        node.create_subscription(TimeStep, "time_step", steps.append, qos.TIME_STEP_CONTROL)
        joy = node.create_publisher(Joy, "joy", 10)
        if terminal:
            print(HELP, end="", flush=True)
        due = time.monotonic()
        open_input = True
        while open_input:
            ready, _, _ = select.select([sys.stdin], [], [], max(due - time.monotonic(), 0.0))
            if ready:
                content = os.read(sys.stdin.fileno(), 1024)
                keys = split_keys(content.decode(errors="replace"))
                open_input = bool(content) and not any(key in QUIT for key in keys)
                for key in keys:
                    keyboard.press(key, time.monotonic())
            if time.monotonic() >= due:
                due = time.monotonic() + PERIOD
                axes, buttons = keyboard.state(time.monotonic())
                message = Joy(axes=axes, buttons=buttons)
                message.header.stamp = node.get_clock().now().to_msg()
                joy.publish(message)
                for _ in range(10):
                    rclpy.spin_once(node, timeout_sec=0.0)
                del states[:-1], steps[:-1]
                if terminal:
                    print(f"\r\x1b[K{_status(axes, buttons, states, steps)}", end="", flush=True)
        if terminal:
            print()
    return 0


def _status(axes: list[float], buttons: list[int], states: list[ControllerState], steps: list[TimeStep]) -> str:
    held = "held    " if any(buttons) else "released"
    who = f"{states[-1].active} moves the robot" if states else "no robot yet"
    where = f"episode {steps[-1].episode} step {steps[-1].step}" if steps else "no episode yet"
    return f"{held} {axes[0]:+.1f} {axes[1]:+.1f}  {who}; {where}"


@contextmanager
def _raw_terminal() -> Iterator[bool]:
    """Keys as they are pressed, unseen, while in it. Yields whether there is a terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
