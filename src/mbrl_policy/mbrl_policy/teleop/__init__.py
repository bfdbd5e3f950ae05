# SPDX-License-Identifier: Apache-2.0
"""A person's hand on the robot: what joysticks and keys mean. No ROS, no torch."""

from mbrl_policy.teleop.joystick import Button, Hand, Joystick, JoystickConfig, JoystickRefused
from mbrl_policy.teleop.keyboard import KeyboardJoystick
from mbrl_policy.teleop.noise import CommandNoise, CommandNoiseConfig

__all__ = [
    "Button",
    "CommandNoise",
    "CommandNoiseConfig",
    "Hand",
    "Joystick",
    "JoystickConfig",
    "JoystickRefused",
    "KeyboardJoystick",
]
