# SPDX-License-Identifier: Apache-2.0
"""Reads a robot file: the one place where a user describes a robot.

name: cartpole
mjcf: package://mbrl_description/mjcf/cartpole.xml     # only simulation needs it
task: cartpole_swingup                                 # preset in config/tasks used when none is asked for
episode_steps: 200                                     # length of an episode
control:
  period: 0.04                 # s
  command_offset: 0.0          # s after the sample at which the action of an interval is sent
  delay: 0.0                   # s, the robot's own, from a command to its effect in joint_states: docs/delay.md
  max_open_loop_steps: 3       # rows older than this many steps are not executed
  command_topic: effort_controller/commands      # default: that of the actions' interface
  chain: [planner]             # who serves, in order, when the selected controller has no valid row
joints:                        # order of the state: all positions, then all velocities
  - {name: slider, kind: linear, position_limits: [-2.5, 2.5], velocity_limit: 20.0}
  - {name: hinge, kind: angular}          # no limits: unlimited
actions:
  # effort, velocity or position, the same for all actions; positions are absolute
  - {joint: slider, interface: effort, limits: [-3.0, 3.0], scale: 100.0, slew: 500.0}
safe_action: {kind: damping, gains: [0.1]}   # zero, damping (u = -gain * velocity) or hold (at the position of entry)
guard: {}                      # soft stops, speeds, spread of plans: mbrl_core.guard_limits; none of them by default
estimation: {}                 # velocities by differences, sensors, partial observations: mbrl_core.estimation
start:                         # of simulated episodes: normal distribution
  position: {mean: [0.0, 0.0], std: [0.1, 0.1]}
  velocity: {mean: [0.0, 0.0], std: [0.1, 0.1]}
simulation:
  steps_per_control: 2         # MJCF time steps in one control period
  realtime_substeps: 5         # each of them is cut into so many in realtime
  command_timeout: 0.2         # s without a command after which the backend sends zero by itself
  command_delay: 0.0           # s by which the simulation lets each command act later than it comes
"""

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbrl_core.command_interfaces import check_safe_action, default_command_topic, one_interface
from mbrl_core.estimation import Estimation, parse_estimation, sensor_kinds
from mbrl_core.guard_limits import GuardLimits, parse_guard_limits
from mbrl_core.observation import Observation, whole_spec
from mbrl_core.robot_keys import refuse_unknown
from mbrl_core.specs import ActionSpec, Array, RobotSpec, SpecError, StateSpec

UNITS = {"linear": ("m", "m/s"), "angular": ("rad", "rad/s")}
EFFORT_UNITS = {"linear": "N", "angular": "N m"}
TOP_LEVEL_KEYS = (
    "name", "mjcf", "task", "episode_steps", "control", "joints", "actions", "safe_action", "guard", "estimation",
    "start", "simulation",
)  # fmt: skip


@dataclass(frozen=True)
class Joint:
    """One joint; limits in m and m/s, or rad and rad/s."""

    name: str
    kind: str
    position_limits: tuple[float, float] = (-math.inf, math.inf)
    velocity_limit: float = math.inf


@dataclass(frozen=True)
class SafeAction:
    """The robot's own last resort. `gains` [action_size] in normalised action per m/s or rad/s (damping), or per m or
    rad (hold; with efforts together with critical damping)."""

    kind: str = "zero"
    gains: tuple[float, ...] = ()


@dataclass(frozen=True)
class StartDistribution:
    """Normal distribution of the start state; each tuple is [joints], SI units."""

    position_mean: tuple[float, ...]
    position_std: tuple[float, ...]
    velocity_mean: tuple[float, ...]
    velocity_std: tuple[float, ...]


@dataclass(frozen=True)
class Simulation:
    """How a simulation backend advances."""

    steps_per_control: int = 1
    realtime_substeps: int = 1
    command_timeout: float = 0.2
    command_delay: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.command_delay < math.inf:
            raise SpecError(
                f"simulation.command_delay: got {self.command_delay}, expected a number of seconds, at least 0"
            )


@dataclass(frozen=True)
class Robot:
    """A whole robot file. `action_joints` [action_size] are indices into `joints`.

    `spec.state` is what everybody sees; `observation` makes it of the whole state, which has other entries where the
    file has a section `estimation`.
    """

    spec: RobotSpec
    joints: tuple[Joint, ...]
    action_joints: tuple[int, ...]
    start: StartDistribution
    safe_action: SafeAction
    simulation: Simulation
    command_offset: float
    command_topic: str
    chain: tuple[str, ...]
    episode_steps: int
    task: str
    mjcf: Path | None
    observation: Observation
    guard: GuardLimits = field(default_factory=GuardLimits)
    estimation: Estimation = field(default_factory=Estimation)

    @property
    def interface(self) -> str:
        """What all commands are: effort, velocity or position."""
        return self.spec.action.interfaces[0]


def load_robot(path: str | Path) -> Robot:
    """Reads and checks a robot file.

    Raises FileNotFoundError that lists the robots beside it, or SpecError that names the field at fault.
    """
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"unknown robot {path.stem!r}: {path} does not exist; robots beside it: {known}")
    with open(path, encoding="utf-8") as stream:
        content = yaml.safe_load(stream)
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected a mapping at the top level")
    try:
        return _parse(content, path)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    except KeyError as error:
        raise SpecError(f"{path}: expected a key {error.args[0]!r}") from None
    except (TypeError, ValueError) as error:
        raise SpecError(f"{path}: {error}") from None


def _parse(content: dict[str, Any], path: Path) -> Robot:
    refuse_unknown("robot file", content, TOP_LEVEL_KEYS)
    joints = tuple(_joint(item) for item in content["joints"])
    names = [joint.name for joint in joints]
    action_joints = tuple(_joint_index(item["joint"], names) for item in content["actions"])
    control = dict(content["control"])
    refuse_unknown("control", control,
                    ("period", "command_offset", "delay", "max_open_loop_steps", "command_topic", "chain"))  # fmt: skip
    mjcf = _resolve(content["mjcf"], path) if content.get("mjcf") else None
    estimation = parse_estimation(content.get("estimation") or {})
    action = _action_spec(content["actions"], joints, action_joints)
    observation = Observation(
        whole_spec(_state_spec(joints), sensor_kinds(estimation.sensors)),
        len(joints),
        "velocities" in estimation.observe,
        estimation.history,
        float(control["period"]),
        action if estimation.actions else None,
    )
    spec = RobotSpec(
        name=str(content["name"]),
        period=float(control["period"]),
        state=observation.spec,
        action=action,
        max_open_loop_steps=int(control.get("max_open_loop_steps", 3)),
        physical_hash=hashlib.sha256(mjcf.read_bytes()).hexdigest() if mjcf and mjcf.is_file() else "",
        delay=float(control.get("delay", 0.0)),
    )
    command_offset = float(control.get("command_offset", 0.0))
    if not 0.0 <= command_offset < spec.period:
        raise SpecError(f"control.command_offset: got {command_offset}, expected 0 <= offset < period {spec.period}")
    simulation = dict(content.get("simulation", {}))
    refuse_unknown(
        "simulation", simulation, ("steps_per_control", "realtime_substeps", "command_timeout", "command_delay")
    )
    return Robot(
        spec=spec,
        joints=joints,
        action_joints=action_joints,
        start=_start(content.get("start", {}), len(joints)),
        safe_action=_safe_action(content.get("safe_action", {}), spec),
        simulation=Simulation(**simulation),
        command_offset=command_offset,
        command_topic=str(control.get("command_topic", default_command_topic(spec.action.interfaces[0]))),
        chain=tuple(control.get("chain", ("planner",))),
        episode_steps=int(content.get("episode_steps", 200)),
        task=str(content.get("task", "")),
        mjcf=mjcf,
        observation=observation,
        estimation=estimation,
        guard=parse_guard_limits(
            content.get("guard") or {},
            spec.action.names,
            {joint.name: joint.position_limits for joint in joints},
            spec.state.names,
        ),
    )


def _joint(item: dict[str, Any]) -> Joint:
    refuse_unknown("joint", item, ("name", "kind", "position_limits", "velocity_limit"))
    if item["kind"] not in UNITS:
        raise SpecError(f"joint {item['name']!r} kind: got {item['kind']!r}, expected linear or angular")
    low, high = item.get("position_limits") or (-math.inf, math.inf)
    velocity_limit = item.get("velocity_limit")
    return Joint(item["name"], item["kind"], (float(low), float(high)),
                 math.inf if velocity_limit is None else float(velocity_limit))  # fmt: skip


def _joint_index(name: str, names: list[str]) -> int:
    if name not in names:
        raise SpecError(f"action joint: got {name!r}, expected one of {', '.join(names)}")
    return names.index(name)


def _state_spec(joints: tuple[Joint, ...]) -> StateSpec:
    limits = [joint.position_limits for joint in joints]
    speeds = [joint.velocity_limit for joint in joints]
    return StateSpec(
        names=tuple(f"{joint.name}_{part}" for part in ("position", "velocity") for joint in joints),
        kinds=tuple(joint.kind for joint in joints) + ("linear",) * len(joints),
        units=tuple(UNITS[joint.kind][part] for part in (0, 1) for joint in joints),
        lower=tuple(low for low, _ in limits) + tuple(-speed for speed in speeds),
        upper=tuple(high for _, high in limits) + tuple(speeds),
    )


def _action_spec(items: list[dict[str, Any]], joints: tuple[Joint, ...], indices: tuple[int, ...]) -> ActionSpec:
    for item in items:
        refuse_unknown("action", item, ("joint", "interface", "limits", "scale", "slew"))
    kinds = [joints[index].kind for index in indices]
    units = {
        "effort": lambda kind: EFFORT_UNITS[kind],
        "position": lambda kind: UNITS[kind][0],
        "velocity": lambda kind: UNITS[kind][1],
    }
    interfaces = [item.get("interface", "effort") for item in items]
    for interface in interfaces:
        if interface not in units:
            raise SpecError(f"action interface: got {interface!r}, expected one of {', '.join(units)}")
    one_interface(interfaces)
    return ActionSpec(
        names=tuple(item["joint"] for item in items),
        interfaces=tuple(interfaces),
        units=tuple(units[interface](kind) for interface, kind in zip(interfaces, kinds, strict=True)),
        lower=tuple(float(item["limits"][0]) for item in items),
        upper=tuple(float(item["limits"][1]) for item in items),
        scale=tuple(float(item.get("scale", 1.0)) for item in items),
        slew=tuple(math.inf if item.get("slew") is None else float(item["slew"]) for item in items),
    )


def _start(content: dict[str, Any], joints: int) -> StartDistribution:
    refuse_unknown("start", content, ("position", "velocity"))
    fields: dict[str, tuple[float, ...]] = {}
    for part in ("position", "velocity"):
        for moment in ("mean", "std"):
            values = tuple(float(value) for value in content.get(part, {}).get(moment, [0.0] * joints))
            if len(values) != joints:
                raise SpecError(
                    f"start.{part}.{moment}: got {len(values)} entries, expected {joints}, one for each joint"
                )
            fields[f"{part}_{moment}"] = values
    return StartDistribution(**fields)


def _safe_action(content: dict[str, Any], spec: RobotSpec) -> SafeAction:
    refuse_unknown("safe_action", content, ("kind", "gains"))
    action = spec.action
    kind = str(content.get("kind", "hold" if action.interfaces[0] == "position" else "zero"))
    gains = tuple(float(gain) for gain in content.get("gains", [0.0] * action.size))
    if len(gains) != action.size:
        raise SpecError(f"safe_action.gains: got {len(gains)} entries, expected {action.size}, one for each action")
    check_safe_action(action.interfaces[0], kind, gains, action.scale, spec.period)
    return SafeAction(kind, gains)


def _resolve(reference: str, robot_file: Path) -> Path:
    """Resolves package://PACKAGE/PATH through the ament index, other paths relative to the robot file."""
    prefix = "package://"
    if not reference.startswith(prefix):
        return (robot_file.parent / reference).resolve()
    # Imported here: only robots that name a package need the ament index, notebooks may lack it.
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    package, _, relative = reference[len(prefix) :].partition("/")
    try:
        return Path(get_package_share_directory(package)) / relative
    except PackageNotFoundError:
        raise SpecError(f"mjcf: package {package!r} of {reference!r} is not installed") from None


def start_state(robot: Robot, random: np.random.Generator) -> Array:
    """Draws positions and velocities [2 joints] to start in with the numpy generator `random`."""
    start = robot.start
    position = random.normal(start.position_mean, start.position_std)
    velocity = random.normal(start.velocity_mean, start.velocity_std)
    return np.concatenate([position, velocity])
