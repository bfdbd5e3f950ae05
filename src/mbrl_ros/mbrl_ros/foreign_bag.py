# SPDX-License-Identifier: Apache-2.0
"""Transitions of bags that were recorded without this suite: joint states, commands, and a robot file.

Both are brought to the robot's control period. Time is that of reception: commands carry no stamp of their own. Within
a stretch without gaps the clock's phase is that of the commands, so that an interval holds one command where they came
at the control rate. States are interpolated linearly between joint states, angles the short way round. A command holds
until the next one (zero-order hold); the action of an interval is the mean of what was held, as in TimeStep.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_core.dataset import Transitions
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, state_difference
from mbrl_ros.bag_reading import BagError, read_stamped

JOINT_STATES = "joint_states"
GAP_PERIODS = 1.5  # joint states further apart than this many control periods leave a gap
TOLERANCE = 1e-6  # by which a command may exceed its limit, normalised


@dataclass(frozen=True)
class Signal:
    """Values [n, size] at times [n], seconds since the bag began, ascending."""

    times: Array
    values: Array


def read_foreign_transitions(path: str | Path, robot: Robot, namespace: str | None = None) -> Transitions:
    """Transitions of a bag with `joint_states` (sensor_msgs/JointState) and the robot's command topic
    (std_msgs/Float64MultiArray, SI units in the order of the robot file's actions).

    Every stretch between gaps becomes an episode. A gap is where joint states (those with finite numbers) are more than
    1.5 control periods apart, and where no command came for the robot's command time-out. Raises BagError that names
    the topic or joint at fault.
    """
    spec = robot.spec
    states, commands = _signals(Path(path), robot, namespace)
    _check_limits(Path(path), robot, commands)
    angular = spec.state.angular
    parts: list[Transitions] = []
    for first, last in _stretches(states.times, GAP_PERIODS * spec.period):
        stretch = Signal(states.times[first:last], states.values[first:last])
        for begin, end in _commanded(commands.times, robot.simulation.command_timeout):
            ticks = _ticks(max(begin, stretch.times[0]), min(end, stretch.times[-1]), commands.times, spec.period)
            if len(ticks) < 2:
                continue
            sampled = _interpolate(stretch, ticks, angular)
            count = len(ticks) - 1
            parts.append(
                Transitions(
                    sampled[:-1], _held_mean(commands, ticks), sampled[1:],
                    np.full(count, len(parts) + 1, dtype=np.int64), np.arange(count, dtype=np.int64),
                )
            )  # fmt: skip
    if not parts:
        apart = float(np.median(np.diff(states.times))) if len(states.times) > 1 else float("nan")
        raise BagError(
            f"{path}: expected joint states and commands at the same time, at least one in a control period of"
            f" {spec.period:g} s; got {len(states.times)} joint states, typically {apart:g} s apart, and"
            f" {len(commands.times)} commands"
        )
    return Transitions.joined(parts)


def _signals(path: Path, robot: Robot, namespace: str | None) -> tuple[Signal, Signal]:
    """States as the robot file orders them, and normalised commands."""
    if not robot.observation.plain:
        raise BagError(f"{path}: joint_states do not make the states of robot {robot.spec.name!r}: see its estimation")
    joints = [joint.name for joint in robot.joints]
    times: dict[str, list[float]] = {JOINT_STATES: [], robot.command_topic: []}
    values: dict[str, list[Array]] = {JOINT_STATES: [], robot.command_topic: []}
    begin: int | None = None
    others: set[str] = set()
    for topic, time_ns, message in read_stamped(path, (JOINT_STATES, robot.command_topic), namespace):
        begin = time_ns if begin is None else begin
        if topic == JOINT_STATES:
            if not set(joints) <= set(message.name):
                others |= set(message.name)  # of another part of the robot, which publishes by itself
                continue
            value = _state(path, message, joints)
        else:
            value = np.array(message.data, dtype=np.float64) / _scale(path, robot, message)
        times[topic].append(1e-9 * (time_ns - begin))
        values[topic].append(value)
    if not values[JOINT_STATES]:
        missing = ", ".join(sorted(set(joints) - others)) or "all of them in one message"
        raise BagError(
            f"{path}: joint_states: expected joints {', '.join(joints)} of robot {robot.spec.name!r}, got"
            f" {', '.join(sorted(others)) or 'no message'}; missing: {missing}"
        )
    if not values[robot.command_topic]:
        raise BagError(f"{path}: {robot.command_topic}: expected commands, got no message")
    states = _signal(times[JOINT_STATES], values[JOINT_STATES])
    commands = _signal(times[robot.command_topic], values[robot.command_topic])
    if not np.isfinite(commands.values).all():
        raise BagError(f"{path}: {robot.command_topic}: expected finite numbers, got some that are not")
    finite = np.isfinite(states.values).all(axis=1)
    return Signal(states.times[finite], states.values[finite]), commands


def _signal(times: list[float], values: list[Array]) -> Signal:
    """Of several at the same time the newest counts."""
    moments = np.array(times)
    newest = np.append(np.diff(moments) > 0.0, True)
    return Signal(moments[newest], np.array(values)[newest])


def _state(path: Path, message: Any, joints: list[str]) -> Array:
    names = list(message.name)
    for part in ("position", "velocity"):
        if len(getattr(message, part)) != len(names):
            raise BagError(
                f"{path}: joint_states: {len(getattr(message, part))} numbers in {part}, expected {len(names)}, one for"
                f" each of {', '.join(names)}"
            )
    order = [names.index(joint) for joint in joints]
    return np.concatenate([np.array(message.position)[order], np.array(message.velocity)[order]]).astype(np.float64)


def _scale(path: Path, robot: Robot, message: Any) -> Array:
    spec = robot.spec.action
    if len(message.data) != spec.size:
        raise BagError(
            f"{path}: {robot.command_topic}: {len(message.data)} numbers in a command, expected {spec.size}, one for"
            f" each of {', '.join(spec.names)}"
        )
    return np.array(spec.scale)


def _check_limits(path: Path, robot: Robot, commands: Signal) -> None:
    spec = robot.spec.action
    for index, name in enumerate(spec.names):
        least, largest = commands.values[:, index].min(), commands.values[:, index].max()
        if least < spec.lower[index] - TOLERANCE or largest > spec.upper[index] + TOLERANCE:
            scale, unit = spec.scale[index], spec.units[index]
            raise BagError(
                f"{path}: {robot.command_topic}: commands of {name!r} from {least * scale:g} to {largest * scale:g}"
                f" {unit}, expected {spec.lower[index] * scale:g} to {spec.upper[index] * scale:g}: what the robot"
                " did is not known; are `limits` and `scale` in the robot file those of the robot?"
            )


def _stretches(times: Array, largest: float) -> list[tuple[int, int]]:
    """(first, one past the last) of runs of samples that are not further apart than `largest`."""
    cuts = np.flatnonzero(np.diff(times) > largest) + 1
    bounds = [0, *cuts.tolist(), len(times)]
    return [(first, last) for first, last in pairwise(bounds) if last - first >= 2]


def _commanded(times: Array, timeout: float) -> list[tuple[float, float]]:
    """Spans in which a command is in force: from the first of a run until the time-out after its last."""
    cuts = np.flatnonzero(np.diff(times) > timeout) + 1
    return [(float(run[0]), float(run[-1]) + timeout) for run in np.split(times, cuts) if len(run)]


def _ticks(begin: float, end: float, command_times: Array, period: float) -> Array:
    """Times a period apart within [begin, end], in phase with the commands that came there."""
    within = command_times[(command_times >= begin) & (command_times <= end)]
    turns = np.exp(2j * np.pi * (within - begin) / period)
    # The mean direction on the circle: a clock that drifts through all phases gives just some phase.
    phase = float(np.angle(turns.mean()) / (2.0 * np.pi) * period) if len(within) else 0.0
    # A command just before `begin` by rounding is at it, not a period later.
    start = begin + max(phase, 0.0) if phase >= -1e-6 * period else begin + phase + period
    count = int(np.floor((end - start) / period + 1e-9)) + 1
    return np.asarray(start + period * np.arange(max(count, 0)), dtype=np.float64)


def _interpolate(signal: Signal, times: Array, angular: np.ndarray) -> Array:
    after = np.clip(np.searchsorted(signal.times, times, side="right"), 1, len(signal.times) - 1)
    before = after - 1
    share = (times - signal.times[before]) / (signal.times[after] - signal.times[before])
    change = state_difference(signal.values[after], signal.values[before], angular)
    return np.asarray(signal.values[before] + np.clip(share, 0.0, 1.0)[:, None] * change)


def _held_mean(commands: Signal, ticks: Array) -> Array:
    """Mean [len(ticks) - 1, action_size] of the held command over each interval between ticks."""
    # The integral of a step function is linear between its steps.
    durations = np.diff(commands.times)[:, None]
    integral = np.concatenate([np.zeros((1, commands.values.shape[1])),
                               np.cumsum(commands.values[:-1] * durations, axis=0)])  # fmt: skip
    held = np.clip(np.searchsorted(commands.times, ticks, side="right") - 1, 0, None)
    at_ticks = integral[held] + commands.values[held] * (ticks - commands.times[held])[:, None]
    return np.asarray(np.diff(at_ticks, axis=0) / np.diff(ticks)[:, None])
