# SPDX-License-Identifier: Apache-2.0
"""What a robot is: names, kinds, units and limits of its states and actions, and the hashes that guard them."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KINDS = ("linear", "angular")
INTERFACES = ("effort", "velocity", "position")
# Marks a state's entry of so many steps ago: slider_position@-1.
AGO = "@-"


class SpecError(ValueError):
    """A robot description contradicts itself. The text names the field, what came and what was expected."""


@dataclass(frozen=True)
class StateSpec:
    """Names, kinds (`linear` or `angular`), SI units and limits of the state; every tuple is [state_size]."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_lengths("state", self.names, kinds=self.kinds, units=self.units, lower=self.lower, upper=self.upper)
        _check_choices("state kinds", self.kinds, KINDS)
        _check_limits("state", self.names, self.lower, self.upper)

    @property
    def size(self) -> int:
        """Number of state variables."""
        return len(self.names)

    @property
    def angular(self) -> NDArray[np.bool_]:
        """[state_size] true where the variable wraps at 2 pi."""
        return np.array([kind == "angular" for kind in self.kinds])


@dataclass(frozen=True)
class ActionSpec:
    """Names, interfaces, limits in normalised units, SI scale and slew limits; every tuple is [action_size]."""

    names: tuple[str, ...]
    interfaces: tuple[str, ...]
    units: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    scale: tuple[float, ...]
    slew: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_lengths(
            "action", self.names, interfaces=self.interfaces, units=self.units, lower=self.lower, upper=self.upper,
            scale=self.scale, slew=self.slew,
        )  # fmt: skip
        _check_choices("action interfaces", self.interfaces, INTERFACES)
        _check_limits("action", self.names, self.lower, self.upper)
        if not all(math.isfinite(value) for value in (*self.lower, *self.upper)):
            raise SpecError(
                "action limits: every action needs finite limits, planners and exploration sample within them"
            )
        if not all(math.isfinite(value) and value != 0.0 for value in self.scale):
            raise SpecError(f"action scale: got {list(self.scale)}, expected finite numbers other than 0")
        if not all(value > 0.0 for value in self.slew):
            raise SpecError(f"action slew: got {list(self.slew)}, expected positive numbers")

    @property
    def size(self) -> int:
        """Number of actions."""
        return len(self.names)


@dataclass(frozen=True)
class RobotSpec:
    """The interface of a robot as everyone else sees it.

    `period` in seconds, `delay` too: the robot's own, from a command's publication to its effect in joint_states. It is
    in no hash: data and models are of what acted, whenever it was sent.
    """

    name: str
    period: float
    state: StateSpec
    action: ActionSpec
    max_open_loop_steps: int = 3
    physical_hash: str = ""
    delay: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.period) and self.period > 0.0):
            raise SpecError(f"period: got {self.period}, expected a positive number of seconds")
        if self.max_open_loop_steps < 1:
            raise SpecError(f"max_open_loop_steps: got {self.max_open_loop_steps}, expected at least 1")

        if not (math.isfinite(self.delay) and self.delay >= 0.0):
            raise SpecError(f"delay: got {self.delay}, expected a number of seconds, at least 0")

    @cached_property
    def interface_hash(self) -> str:
        """sha256 over names, kinds, units, order and period. Data, models and plans of another hash are refused."""
        return _digest(
            {
                "period": self.period,
                "state": [self.state.names, self.state.kinds, self.state.units],
                "action": [self.action.names, self.action.interfaces, self.action.units],
            }
        )

    @cached_property
    def description_hash(self) -> str:
        """sha256 over limits, scales and masses. A difference is worth a warning."""
        return _digest(
            {
                "state": [_texts(self.state.lower), _texts(self.state.upper)],
                "action": [_texts(values) for values in
                           (self.action.lower, self.action.upper, self.action.scale, self.action.slew)],
                "physical": self.physical_hash,
            }
        )  # fmt: skip


def wrap_angles(values: Array, angular: NDArray[np.bool_]) -> Array:
    """Wraps the angular entries of `values` [..., state_size] to [-pi, pi)."""
    wrapped = np.array(values, dtype=np.float64)
    wrapped[..., angular] = (wrapped[..., angular] + np.pi) % (2.0 * np.pi) - np.pi
    return wrapped


def state_difference(state: Array, reference: Array, angular: NDArray[np.bool_]) -> Array:
    """state minus reference [..., state_size], the angular entries wrapped to [-pi, pi)."""
    return wrap_angles(np.asarray(state, dtype=np.float64) - np.asarray(reference, dtype=np.float64), angular)


def _texts(values: Sequence[float]) -> list[str]:
    return [repr(float(value)) for value in values]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_lengths(role: str, names: Sequence[str], **fields: Sequence[Any]) -> None:
    if not names:
        raise SpecError(f"{role}: got no names, expected at least one")
    if len(set(names)) != len(names):
        raise SpecError(f"{role} names: got {list(names)}, expected no name twice")
    for field, values in fields.items():
        if len(values) != len(names):
            raise SpecError(f"{role} {field}: got {len(values)} entries, expected {len(names)}, one for each name")


def _check_choices(role: str, values: Sequence[str], choices: Sequence[str]) -> None:
    for value in values:
        if value not in choices:
            raise SpecError(f"{role}: got {value!r}, expected one of {', '.join(choices)}")


def _check_limits(role: str, names: Sequence[str], lower: Sequence[float], upper: Sequence[float]) -> None:
    for name, low, high in zip(names, lower, upper, strict=True):
        if math.isnan(low) or math.isnan(high) or low >= high:
            raise SpecError(f"{role} limits of {name!r}: got [{low}, {high}], expected lower < upper")
