# SPDX-License-Identifier: Apache-2.0
"""Somebody who can swing the pendulum up with a joystick: what tests show in a person's place."""

import math

import numpy as np

from mbrl_core.messages import Plan, TimeStep

NEAR = 0.5  # rad from upright, within which it is held there
GRAVITY_OVER_LENGTH = 9.81 / 0.5  # 1/s^2


def wanted_action(angle: float, velocity: float) -> float:
    """The action, in [-1, 1], in a state of the pendulum: angle (rad, 0 hanging) and velocity (rad/s)."""
    from_upright = math.remainder(angle - math.pi, 2.0 * math.pi)
    if abs(from_upright) < NEAR:
        return float(np.clip(-6.0 * from_upright - 1.6 * velocity, -1.0, 1.0))
    # In units of m g l: 1 is what it takes to come to rest upright.
    energy = 0.5 * velocity**2 / GRAVITY_OVER_LENGTH - math.cos(angle)
    push = 1.0 if velocity >= -0.02 else -1.0
    return push if energy <= 0.98 else -0.5 * push


def soon(angle: float, velocity: float, seconds: float) -> tuple[float, float]:
    """Angle and velocity after a moment: who answers late has to think ahead."""
    return angle + seconds * velocity, velocity - seconds * GRAVITY_OVER_LENGTH * math.sin(angle)


def shown_by_a_person(time_step: TimeStep) -> Plan:
    """As a controller."""
    return Plan(np.array([[wanted_action(*time_step.state)]]))
