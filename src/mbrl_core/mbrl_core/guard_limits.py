# SPDX-License-Identifier: Apache-2.0
"""The section `guard` of a robot file: what the guard of robot_node enforces beyond the limits of the actions.

guard:
  soft_stop:                     # joint: distance before its position_limits, braking in action per m/s or rad/s
    slider: {margin: 0.4, braking: 0.6}
  velocity:                      # joint: largest speed, braking in action per m/s or rad/s beyond it
    hinge: {limit: 12.0, braking: 0.2}
  predicted_std: {slider_position: 0.5}      # state: largest spread that a plan may predict up to the end of a row
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mbrl_core.robot_keys import refuse_unknown
from mbrl_core.specs import SpecError

SECTIONS = ("soft_stop", "velocity", "predicted_std")


@dataclass(frozen=True)
class SoftStop:
    """Positions `lower` and `upper` (m or rad) at which a joint is stopped; `braking` in normalised action per m/s."""

    lower: float
    upper: float
    braking: float


@dataclass(frozen=True)
class SpeedLimit:
    """Largest speed (m/s or rad/s) of a joint; `braking` in normalised action per m/s beyond it."""

    limit: float
    braking: float


@dataclass(frozen=True)
class GuardLimits:
    """soft_stops and speeds [action_size], None where there is none; predicted_std [state_size], inf where none.

    Empty tuples: no limit at all.
    """

    soft_stops: tuple[SoftStop | None, ...] = ()
    speeds: tuple[SpeedLimit | None, ...] = ()
    predicted_std: tuple[float, ...] = ()


def parse_guard_limits(
    content: dict[str, Any],
    action_joints: Sequence[str],
    position_limits: dict[str, tuple[float, float]],
    state_names: Sequence[str],
) -> GuardLimits:
    """Reads the section. Raises SpecError that names the key, what came and what was expected."""
    refuse_unknown("guard", content, SECTIONS)
    refuse_unknown("guard.soft_stop", content.get("soft_stop") or {}, action_joints)
    refuse_unknown("guard.velocity", content.get("velocity") or {}, action_joints)
    refuse_unknown("guard.predicted_std", content.get("predicted_std") or {}, state_names)
    soft_stops = content.get("soft_stop") or {}
    speeds = content.get("velocity") or {}
    spreads = content.get("predicted_std") or {}
    return GuardLimits(
        tuple(
            _soft_stop(name, soft_stops[name], position_limits[name]) if name in soft_stops else None
            for name in action_joints
        ),
        tuple(_speed(name, speeds[name]) if name in speeds else None for name in action_joints),
        tuple(
            _positive(f"guard.predicted_std.{name}", spreads[name]) if name in spreads else math.inf
            for name in state_names
        ),
    )


def _soft_stop(name: str, content: dict[str, Any], limits: tuple[float, float]) -> SoftStop:
    where = f"guard.soft_stop.{name}"
    refuse_unknown(where, content, ("margin", "braking"))
    margin = _positive(f"{where}.margin", content.get("margin"), or_zero=True)
    braking = _positive(f"{where}.braking", content.get("braking", 0.0), or_zero=True)
    lower, upper = limits[0] + margin, limits[1] - margin
    if math.isinf(lower) and math.isinf(upper):
        raise SpecError(f"{where}: joint {name!r} has no position_limits, expected some")
    if lower >= upper:
        raise SpecError(f"{where}.margin: got {margin}, expected less than half of {limits[1] - limits[0]:g}")
    return SoftStop(lower, upper, braking)


def _speed(name: str, content: dict[str, Any]) -> SpeedLimit:
    where = f"guard.velocity.{name}"
    refuse_unknown(where, content, ("limit", "braking"))
    return SpeedLimit(
        _positive(f"{where}.limit", content.get("limit")),
        _positive(f"{where}.braking", content.get("braking", 0.0), or_zero=True),
    )


def _positive(where: str, value: Any, or_zero: bool = False) -> float:
    """A finite number above 0, or 0 as well."""
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number < 0.0 or (number == 0.0 and not or_zero):
        raise SpecError(f"{where}: got {value!r}, expected a number {'at least' if or_zero else 'above'} 0")
    return number
