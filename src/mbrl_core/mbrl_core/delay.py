# SPDX-License-Identifier: Apache-2.0
"""A robot's own delay: what acts when, of what was sent when.

With a delay of whole + fraction periods, the command of step k acts from step k + whole + fraction on, for one period.
Over interval k, between the samples of steps k and k + 1, two commands act in turn: that of step k - whole - 1 for
`fraction` of it, then that of step k - whole.
"""

import numpy as np

from mbrl_core.specs import Array, RobotSpec, state_difference

# Nearer to a whole period than this is a whole one: what is left over is rounding.
ROUNDING = 1e-6


def whole_and_fraction(spec: RobotSpec) -> tuple[int, float]:
    """The robot's delay in control periods: whole ones, and a fraction in [0, 1)."""
    periods = spec.delay / spec.period
    whole = int(periods + ROUNDING)
    fraction = periods - whole
    return whole, fraction if fraction > ROUNDING else 0.0


def whole_steps(spec: RobotSpec) -> int:
    """The robot's delay rounded to control periods: the interval in which a command acts most comes so much later."""
    whole, fraction = whole_and_fraction(spec)
    return whole + (fraction >= 0.5)


def commands_on_the_way(spec: RobotSpec) -> int:
    """How many commands of earlier steps have a share in intervals to come, the present one included; 0 = no delay."""
    return whole_and_fraction(spec)[0] + 1 if spec.delay > 0.0 else 0


def between(before: Array, after: Array, share: float, seconds: float, spec: RobotSpec) -> Array:
    """State [state_size] at `share` of the `seconds` that lie between two states [state_size].

    Positions follow the cubic that fits both positions and both velocities, which a constant acceleration is exact on;
    everything else is interpolated linearly.
    """
    if share <= 0.0:
        return before
    change = state_difference(after, before, spec.state.angular)
    found = before + share * change
    positions, velocities = _positions_and_velocities(spec)
    if positions:
        distance, first, last = change[positions], before[velocities] * seconds, after[velocities] * seconds
        cubic = first + last - 2.0 * distance
        square = 3.0 * distance - 2.0 * first - last
        found[positions] = before[positions] + share * (first + share * (square + share * cubic))
    return np.asarray(found)


def _positions_and_velocities(spec: RobotSpec) -> tuple[list[int], list[int]]:
    names = spec.state.names
    pairs = [
        (index, names.index(f"{name.removesuffix('_position')}_velocity"))
        for index, name in enumerate(names)
        if name.endswith("_position") and f"{name.removesuffix('_position')}_velocity" in names
    ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
