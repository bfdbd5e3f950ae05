# SPDX-License-Identifier: Apache-2.0
"""A keyboard as a joystick: a terminal tells of keys that come, not of keys that are let go."""

from dataclasses import dataclass, field

AXES = {"left": (0, -1.0), "right": (0, 1.0), "down": (1, -1.0), "up": (1, 1.0)}
AXES |= {"h": AXES["left"], "l": AXES["right"], "j": AXES["down"], "k": AXES["up"]}
# The buttons of JoystickConfig's defaults.
DEAD_MAN = 4
BUTTONS = {"enter": 7, "s": 0, "f": 1, "d": 2}
BUTTON_COUNT = 8
AXIS_COUNT = 2
# A held key repeats after half a second at the latest, on terminals as they are set up.
HOLD_SECONDS = 0.6
PRESS_SECONDS = 0.2

ESCAPES = {"\x1b[D": "left", "\x1b[C": "right", "\x1b[B": "down", "\x1b[A": "up", "\r": "enter", "\n": "enter"}


def split_keys(text: str) -> list[str]:
    """Names of the keys in what a terminal has sent; keys without a name are themselves."""
    keys = []
    while text:
        code = next((code for code in ESCAPES if text.startswith(code)), text[0])
        keys.append(ESCAPES.get(code, code))
        text = text[len(code) :]
    return keys


@dataclass
class KeyboardJoystick:
    """Axes and buttons that follow keys. The dead-man button is held while keys of motion, or space, keep coming.

    left, right (or h, l) move axis 0; down, up (j, k) axis 1; 1 to 9 set the deflection, 0 is the whole of it; enter
    starts an episode; s, f, d end it: success, failure, discard.
    """

    deflection: float = 1.0
    _axis_until: dict[int, tuple[float, float]] = field(default_factory=dict)
    _held_until: float = 0.0
    _pressed_until: dict[int, float] = field(default_factory=dict)

    def press(self, key: str, time: float) -> bool:
        """Takes a key at `time`, seconds. Returns whether it means anything."""
        if key in AXES:
            axis, sign = AXES[key]
            # The other direction takes over at once.
            self._axis_until[axis] = (sign, time + HOLD_SECONDS)
            self._held_until = time + HOLD_SECONDS
        elif key == " ":
            self._axis_until.clear()
            self._held_until = time + HOLD_SECONDS
        elif key in BUTTONS:
            self._pressed_until[BUTTONS[key]] = time + PRESS_SECONDS
        elif key.isdigit():
            self.deflection = (int(key) or 10) / 10.0
        else:
            return False
        return True

    def state(self, time: float) -> tuple[list[float], list[int]]:
        """Axes and buttons at `time`, seconds, as sensor_msgs/Joy has them."""
        axes = [0.0] * AXIS_COUNT
        for axis, (sign, until) in self._axis_until.items():
            if time < until:
                axes[axis] = sign * self.deflection
        buttons = [int(time < self._pressed_until.get(index, 0.0)) for index in range(BUTTON_COUNT)]
        buttons[DEAD_MAN] = int(time < self._held_until)
        return axes, buttons
