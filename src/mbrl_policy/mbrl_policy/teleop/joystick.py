# SPDX-License-Identifier: Apache-2.0
"""What the axes and buttons of a joystick mean to a robot."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.specs import Array, RobotSpec

NOT_THERE = -1


class Button(Enum):
    """What buttons ask for."""

    START = "start"
    SUCCESS = "success"
    FAILURE = "failure"
    DISCARD = "discard"


class JoystickRefused(ValueError):
    """A joystick's message is refused. `reason` is a short kind for counting, the text says what came and what was
    expected.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class JoystickConfig:
    """Which axes and buttons; the defaults are those of a gamepad as ROS's joy_node numbers them."""

    axes: tuple[int, ...] = parameter((), "axis of each action; empty takes the first axes in order")
    scales: tuple[float, ...] = parameter(
        (), "share of each action's limit at full deflection, negative turns it round; empty is the whole of it"
    )
    dead_zone: float = parameter(0.05, "deflection below which an axis counts as let go", minimum=0.0, maximum=0.9)
    dead_man_button: int = parameter(4, "button that has to be held for the robot to obey", minimum=0)
    start_button: int = parameter(7, "button that starts an episode; -1: none", minimum=-1)
    success_button: int = parameter(0, "button that ends the episode as a success; -1: none", minimum=-1)
    failure_button: int = parameter(1, "button that ends the episode as a failure; -1: none", minimum=-1)
    discard_button: int = parameter(2, "button that ends the episode and discards it; -1: none", minimum=-1)


@dataclass(frozen=True)
class Hand:
    """What a person wants: whether the dead-man button is held, action [action_size] within limits, and what other
    buttons have just been pressed.
    """

    held: bool
    action: Array
    pressed: tuple[Button, ...] = ()


class Joystick:
    """Turns axes (-1 to 1) and buttons (0, 1) into what a person wants of this robot."""

    def __init__(self, config: JoystickConfig, spec: RobotSpec) -> None:
        """Raises ConfigurationError where axes, scales or buttons do not fit the robot or each other."""
        size = spec.action.size
        self._axes = config.axes or tuple(range(size))
        scales = config.scales or (1.0,) * size
        for name, values in (("axes", self._axes), ("scales", scales)):
            if len(values) != size:
                raise ConfigurationError(
                    f"parameter '{name}': got {list(values)}, expected one of each of {size} actions"
                )
        if min(self._axes) < 0 or not np.isfinite(scales).all() or max(map(abs, scales)) > 1.0:
            raise ConfigurationError(
                f"parameters 'axes' and 'scales': got {list(self._axes)} and {list(scales)}, expected indices from 0 on"
                " and numbers from -1 to 1"
            )
        self._scales = np.array(scales)
        self._lower, self._upper = np.array(spec.action.lower), np.array(spec.action.upper)
        self._dead_zone = config.dead_zone
        self._dead_man = config.dead_man_button
        asked = {button: int(getattr(config, f"{button.value}_button")) for button in Button}
        self._buttons = {button: index for button, index in asked.items() if index != NOT_THERE}
        used = [self._dead_man, *self._buttons.values()]
        twice = [index for index in used if used.count(index) > 1]
        if twice:
            raise ConfigurationError(f"parameters '*_button': button {twice[0]} is used twice, expected once")
        # A button that is down already when the joystick comes has not been pressed.
        self._down: dict[Button, bool] = {}

    def read(self, axes: Sequence[float], buttons: Sequence[int]) -> Hand:
        """Raises JoystickRefused where an axis or the dead-man button is missing or an axis is no number."""
        needed = max(self._axes) + 1
        if len(axes) < needed or len(buttons) <= self._dead_man:
            expected = f"expected at least {needed} and {self._dead_man + 1}"
            raise JoystickRefused("too_small", f"joy: {len(axes)} axes and {len(buttons)} buttons, {expected}")
        deflection = np.array([axes[index] for index in self._axes], dtype=float)
        if not np.isfinite(deflection).all():
            raise JoystickRefused("non_finite", f"joy: axes {deflection.tolist()}, expected finite numbers")
        pressed = []
        for button, index in self._buttons.items():
            down = index < len(buttons) and bool(buttons[index])
            if down and not self._down.get(button, True):
                pressed.append(button)
            self._down[button] = down
        return Hand(bool(buttons[self._dead_man]), self._action(np.clip(deflection, -1.0, 1.0)), tuple(pressed))

    def _action(self, deflection: Array) -> Array:
        # From 0 at the edge of the dead zone on, so that there is no jump.
        beyond = np.maximum(np.abs(deflection) - self._dead_zone, 0.0) / (1.0 - self._dead_zone)
        share = np.sign(deflection) * beyond * self._scales
        return np.clip(np.where(share >= 0.0, share * self._upper, -share * self._lower), self._lower, self._upper)
