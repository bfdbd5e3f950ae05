# SPDX-License-Identifier: Apache-2.0
"""What a robot's command interface means: effort, velocity or position, one for the whole robot.

An effort or a velocity of zero is rest. A position of zero is a place, most likely another one than the robot is at: a
position-driven robot that is to rest is told the position that it has.
"""

from collections.abc import Sequence

import numpy as np

from mbrl_core.specs import Array, SpecError

# What the topic of a single joint's command ends with, between command_splitter and Gazebo's plugins.
JOINT_TOPICS = {"effort": "cmd_force", "velocity": "cmd_vel", "position": "cmd_pos"}
# What a safe action may be.
SAFE_ACTIONS = {
    "effort": ("zero", "damping", "hold"),
    "velocity": ("zero", "hold"),
    "position": ("hold",),
}
WHY_NOT = {
    ("velocity", "damping"): "a velocity of zero is what brakes",
    ("position", "zero"): "0 is a position that the robot would move to",
    ("position", "damping"): "a position drive damps by itself",
}


def one_interface(interfaces: Sequence[str]) -> str:
    """The interface that all actions have. Raises SpecError where they have several."""
    found = tuple(dict.fromkeys(interfaces))
    if len(found) != 1:
        raise SpecError(
            f"actions interface: got {', '.join(found)}, expected the same for all: one controller of ros2_control"
            " takes the commands of the whole robot, and it has one interface"
        )
    return found[0]


def default_command_topic(interface: str) -> str:
    """Topic of the forward command controller of that interface."""
    return f"{interface}_controller/commands"


def check_safe_action(
    interface: str, kind: str, gains: Sequence[float], scales: Sequence[float], period: float
) -> None:
    """Raises SpecError where the kind makes no sense with the interface, or gains cannot be stable."""
    if kind not in SAFE_ACTIONS[interface]:
        why = WHY_NOT.get((interface, kind))
        raise SpecError(
            f"safe_action.kind: got {kind!r}, expected one of {', '.join(SAFE_ACTIONS[interface])} with the interface"
            f" {interface}{': ' + why if why else ''}"
        )
    if interface == "position" and any(gains):
        raise SpecError(f"safe_action.gains: got {list(gains)}, expected none: a position drive has its own")
    if interface == "velocity" and kind == "hold":
        for gain, scale in zip(gains, scales, strict=True):
            # Sampled feedback on an integrator: at 1 / period it is there in one step, beyond it overshoots.
            if not 0.0 <= gain * abs(scale) * period < 1.0:
                raise SpecError(
                    f"safe_action.gains: got {gain:g}, expected 0 to {1.0 / (abs(scale) * period):g}, with which the"
                    " joint is there after a control period"
                )


def rest_action(interface: str, size: int, positions: Array | None) -> Array | None:
    """What brings a robot to rest, or leaves it there: SI [size], zero for efforts and velocities.

    For positions it is `positions` [size], those of the actions' joints now; None where these are unknown.
    """
    if interface != "position":
        return np.zeros(size)
    return None if positions is None else np.array(positions, dtype=np.float64)
