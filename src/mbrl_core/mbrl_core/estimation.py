# SPDX-License-Identifier: Apache-2.0
"""The section `estimation` of a robot file: where velocities come from, what else is measured, and what is seen of it.

estimation:
  velocity:
    source: measured             # as the backend gives them, and by differences where it gives none; or `positions`
    window: 0.02                 # s, of the positions that a velocity is taken from: delay half of it
    smoothing: 0.0               # s, over which measured ones are averaged: delay half of it
  sensors:                       # further entries of the state, named NAME_ENTRY
    - {name: hand, kind: imu, topic: hand/imu, site: hand_imu, entries: [pitch, angular_velocity_y]}
  observe: [positions, velocities]     # of the joints; sensors are always seen
  history: 1                     # newest observations that the state holds, and
  actions: true                  # the actions between them; default: with a history
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mbrl_core.robot_keys import refuse_unknown
from mbrl_core.specs import SpecError

SOURCES = ("measured", "positions")
PARTS = ("positions", "velocities")
AXES = ("x", "y", "z")
ANGLES = ("roll", "pitch", "yaw")
LARGEST_HISTORY = 20
# Entry: kind of state and unit.
_ROTATION = dict.fromkeys(ANGLES, ("angular", "rad"))
_TURNING = {f"angular_velocity_{axis}": ("linear", "rad/s") for axis in AXES}
ENTRIES: dict[str, dict[str, tuple[str, str]]] = {
    "imu": {**_ROTATION, **_TURNING, **{f"linear_acceleration_{axis}": ("linear", "m/s^2") for axis in AXES}},
    "odometry": {
        **dict.fromkeys(AXES, ("linear", "m")),
        **_ROTATION,
        **{f"linear_velocity_{axis}": ("linear", "m/s") for axis in AXES},
        **_TURNING,
    },
}


@dataclass(frozen=True)
class Sensor:
    """Entries of the state from one topic: sensor_msgs/Imu (`imu`) or nav_msgs/Odometry (`odometry`).

    `site` is where MuJoCo measures them, needed in simulation alone.
    """

    name: str
    kind: str
    topic: str
    entries: tuple[str, ...]
    site: str = ""

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the entries in the state."""
        return tuple(f"{self.name}_{entry}" for entry in self.entries)


@dataclass(frozen=True)
class Estimation:
    """`window` and `smoothing` in s; a window of 0 is half a control period."""

    source: str = "measured"
    window: float = 0.0
    smoothing: float = 0.0
    sensors: tuple[Sensor, ...] = ()
    observe: tuple[str, ...] = PARTS
    history: int = 1
    actions: bool = False


def parse_estimation(content: dict[str, Any]) -> Estimation:
    """Reads the section. Raises SpecError that names the key, what came and what was expected."""
    refuse_unknown("estimation", content, ("velocity", "sensors", "observe", "history", "actions"))
    velocity = content.get("velocity") or {}
    refuse_unknown("estimation.velocity", velocity, ("source", "window", "smoothing"))
    source = velocity.get("source", "measured")
    if source not in SOURCES:
        raise SpecError(f"estimation.velocity.source: got {source!r}, expected one of {', '.join(SOURCES)}")
    sensors = tuple(_sensor(item) for item in content.get("sensors") or ())
    for role in ("name", "topic"):
        values = [getattr(sensor, role) for sensor in sensors]
        if len(set(values)) != len(values):
            raise SpecError(f"estimation.sensors {role}: got {values}, expected none twice")
    observe = content.get("observe", list(PARTS))
    if observe not in (["positions"], list(PARTS)):
        raise SpecError(f"estimation.observe: got {observe!r}, expected [positions] or [positions, velocities]")
    history = content.get("history", 1)
    if isinstance(history, bool) or not isinstance(history, int) or not 1 <= history <= LARGEST_HISTORY:
        raise SpecError(f"estimation.history: got {history!r}, expected a whole number from 1 to {LARGEST_HISTORY}")
    return Estimation(
        source,
        _seconds("window", velocity.get("window", 0.0)),
        _seconds("smoothing", velocity.get("smoothing", 0.0)),
        sensors,
        tuple(observe),
        history,
        _actions(content.get("actions", history > 1), history),
    )


def _actions(value: Any, history: int) -> bool:
    if not isinstance(value, bool) or (value and history == 1):
        raise SpecError(
            f"estimation.actions: got {value!r}, expected true or false, and a history of at least 2 beside true"
        )
    return value


def _sensor(item: Any) -> Sensor:
    where = "estimation.sensors"
    refuse_unknown(where, item, ("name", "kind", "topic", "entries", "site"))
    for key in ("name", "kind", "topic", "entries"):
        if not item.get(key):
            raise SpecError(f"{where}: {item!r}, expected a {key!r}")
    kind = item["kind"]
    if kind not in ENTRIES:
        raise SpecError(f"{where} kind: got {kind!r}, expected one of {', '.join(ENTRIES)}")
    name = str(item["name"])
    if "@" in name:
        raise SpecError(f"{where} name: got {name!r}, expected one without '@', which marks earlier observations")
    entries = tuple(str(entry) for entry in item["entries"])
    for entry in entries:
        if entry not in ENTRIES[kind]:
            raise SpecError(f"{where} entries of {name!r}: got {entry!r}, expected some of {', '.join(ENTRIES[kind])}")
    if len(set(entries)) != len(entries):
        raise SpecError(f"{where} entries of {name!r}: got {list(entries)}, expected none twice")
    return Sensor(name, kind, str(item["topic"]), entries, str(item.get("site", "")))


def _seconds(key: str, value: Any) -> float:
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not 0.0 <= number <= 1.0:
        raise SpecError(f"estimation.velocity.{key}: got {value!r}, expected 0 to 1 s")
    return number


def sensor_kinds(sensors: Sequence[Sensor]) -> list[tuple[str, str, str]]:
    """(name, kind, unit) of every entry, in the order of the state."""
    return [
        (name, *ENTRIES[sensor.kind][entry])
        for sensor in sensors
        for name, entry in zip(sensor.state_names, sensor.entries, strict=True)
    ]
