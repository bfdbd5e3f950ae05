# SPDX-License-Identifier: Apache-2.0
"""The first task of an unknown robot."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from mbrl_core.generic_tasks import JointTarget, TipTarget
from mbrl_core.new_robot.figures import ZERO_EFFORT, Figures, balancing_share, mass_and_gravity
from mbrl_core.new_robot.source import NewRobotError, Source
from mbrl_core.new_robot.tip import Tip, tip_of
from mbrl_core.specs import Array
from mbrl_core.task import Task

CANDIDATES = 400  # configurations among which a goal is looked for
HELD = 0.6  # share of an effort that may be needed to hold a configuration
NEARNESS = 0.5  # share of the largest distance among the candidates that the goal shall be away
WAY_POINTS = 8
BALANCING_TRIALS = 15
OUT_OF_REACH = 1000.0  # m/s or rad/s


@dataclass(frozen=True)
class FirstTask:
    """`task`, `steps` of an episode, and `why`: what it is, in words for the file's head. `trials` are worth trying,
    the random one included, and `explores` is the share of the actions that that one takes.
    """

    task: Task
    why: str
    steps: int
    swings: bool
    trials: int = 8
    explores: float = 1.0


def first_task(
    source: Source,
    figures: Figures,
    tip: str = "",
    goal: tuple[float, ...] = (),
    joint_goals: Mapping[str, float] | None = None,
    seed: int = 0,
) -> FirstTask:
    """What is asked for; else, by this rule:

    1. A joint that nothing drives and that gravity pulls: bring the tip to where it is with the undriven joints at
       their highest equilibrium and the driven ones where they start.
    2. Otherwise a point for the tip, half as far away as it can get at least, whose configuration and the straight way
       to it the motors hold with 60 % of their efforts; the nearest such to half way.
    3. Motors that are too weak for any: as 1, with all hinges free.

    Raises NewRobotError when there is no such tip or joint.
    """
    if joint_goals:
        return _joints(source, figures, joint_goals)
    point = tip_of(source, tip)
    if goal:
        task = _tip_task(source, figures, point, np.array(goal), _spread(source, figures, point, seed), swings=False)
        reach = float(np.linalg.norm(point.at(_samples(figures, seed)) - np.array(goal), axis=-1).min())
        if reach > 0.25 * _spread(source, figures, point, seed):
            raise NewRobotError(
                f"goal {list(goal)}: {reach:.3g} m from the nearest place that {point.name} was found at"
            )
        return FirstTask(task, f"Bring {point.name} to a given point and keep it there.", _steps(figures, False), False)
    free = [
        number
        for number in range(len(source.joints))
        if number not in source.driven and figures.gravity[number] > 1e-3 * max(figures.gravity.max(), ZERO_EFFORT)
    ]
    target = None if free else _holdable(source, figures, point, seed)
    if target is not None:
        spread = _spread(source, figures, point, seed)
        task = _tip_task(source, figures, point, point.at(target), spread, swings=False)
        why = f"Bring {point.name} to a point that the motors can hold it at, and keep it there."
        return FirstTask(task, why, _steps(figures, False), False)
    loose = free or [n for n, joint in enumerate(source.joints) if joint.kind == "angular"] or [0]
    upright = _highest(source, figures, loose)
    place = point.at(upright)
    task = _tip_task(source, figures, point, place, _spread(source, figures, point, seed), swings=True)
    names = ", ".join(source.joints[number].name for number in loose)
    reason = "which nothing drives" if free else "which the motors cannot hold anywhere else"
    why = f"Bring {point.name} to where it is with {names}, {reason}, at the highest equilibrium, and keep it there."
    balances = bool(np.linalg.norm(point.at(figures.start) - place) < 0.1 * point.length)
    if not balances:
        return FirstTask(task, why, _steps(figures, True), True)
    # A fall is over soon and says little: more of them.
    share = balancing_share(source, figures, upright, free)
    return FirstTask(task, why, _steps(figures, True, balances=True), False, BALANCING_TRIALS, share)


def _samples(figures: Figures, seed: int) -> Array:
    random = np.random.default_rng(seed + 1)
    return random.uniform(figures.lower, figures.upper, (CANDIDATES, len(figures.lower)))


def _spread(source: Source, figures: Figures, point: Tip, seed: int) -> float:
    """How far the tip can get from where it starts, in m."""
    places = point.at(_samples(figures, seed))
    return float(np.linalg.norm(places - point.at(figures.start), axis=-1).max())


def _steps(figures: Figures, swings: bool, balances: bool = False) -> int:
    """Episodes of about 4 s, 8 s for swinging, 2 s for balancing, which may be lost for good; tens of steps."""
    seconds = 2.0 if balances else 8.0 if swings else 4.0
    return int(min(400, max(50, round(seconds / figures.period / 10.0) * 10)))


def _tip_task(source: Source, figures: Figures, point: Tip, goal: Array, spread: float, swings: bool) -> TipTarget:
    start = float(np.linalg.norm(point.at(figures.start) - goal))
    scale = max(start, 0.5 * spread)
    parameters: dict[str, float] = {
        "joints": len(source.joints),
        "actions": len(source.actuators),
        "width": _short(0.15 * scale),
    }
    parameters |= {
        f"tip_{axis}": float(f"{value:.9g}") for axis, value in zip("xyz", point.place, strict=True) if value
    }
    for joint in point.chain:
        prefix = f"{'hinge' if joint.hinge else 'slide'}_{joint.index}"
        vectors = {"axis": joint.axis, "anchor": joint.anchor} if joint.hinge else {"axis": joint.axis}
        for name, vector in vectors.items():
            for axis, value in zip("xyz", vector, strict=True):
                if value:
                    parameters[f"{prefix}_{name}_{axis}"] = float(f"{value:.12g}")
    return TipTarget(
        tuple(round(float(value), 6) + 0.0 for value in goal),
        {**parameters, **_speeds(source, figures, {joint.index for joint in point.chain})},
        _weights(source, _short(1.0 / scale), swings),
    )


def _weights(source: Source, distance: float, swings: bool) -> dict[str, float]:
    """As far as the start costs 1, being off the goal costs 1 more, a motion at its usual speed 0.05 and all actions at
    their usual limits 0.02; swinging has to be fast, so that costs less."""
    return {
        "distance": distance,
        "close": 1.0,
        "velocity": _short((0.01 if swings else 0.05) / len(source.joints)),
        "action": _short((0.005 if swings else 0.02) / len(source.actuators)),
    }


def _speeds(source: Source, figures: Figures, concerned: set[int]) -> dict[str, float]:
    """The usual speed of each joint: half its range in the time in which its motor or gravity moves it that far; out of
    reach where nothing drives the joint and it does not move the tip."""
    speeds = {}
    for number in range(len(source.joints)):
        if number not in concerned | source.driven:
            speeds[f"speed_{number}"] = OUT_OF_REACH
            continue
        strength = max(figures.effort[number] if number in source.driven else 0.0, figures.gravity[number], ZERO_EFFORT)
        actuator = next((item for item in source.actuators if item.joint == number), None)
        if actuator is not None and actuator.interface != "effort":
            strength = max(figures.gravity[number], figures.inertia[number] * figures.span[number] / 0.25)
        time = 2.0 * math.sqrt(figures.span[number] * figures.inertia[number] / strength)
        speeds[f"speed_{number}"] = _short(min(max(figures.span[number] / time, 0.1), 20.0))
    return speeds


def _short(value: float) -> float:
    return float(f"{value:.2g}")


def _holdable(source: Source, figures: Figures, point: Tip, seed: int) -> Array | None:
    """A configuration [joints] as rule 2 says; None when there is none."""
    candidates = _samples(figures, seed)
    # Well inside the limits.
    candidates = figures.start + 0.8 * (candidates - figures.start)
    distances = np.linalg.norm(point.at(candidates) - point.at(figures.start), axis=-1)
    far = NEARNESS * distances.max()
    touching = _contacts(source, figures.start)
    for number in np.argsort(np.abs(distances - 1.2 * far)):
        if distances[number] < 0.8 * far:
            continue
        way = figures.start + np.linspace(0.0, 1.0, WAY_POINTS)[:, None] * (candidates[number] - figures.start)
        if (
            all(_held(source, figures, place) for place in way[1:])
            and not _contacts(source, candidates[number]) - touching
        ):
            return candidates[number]
    return None


def _held(source: Source, figures: Figures, positions: Array) -> bool:
    holding = np.abs(mass_and_gravity(source, positions)[1])
    efforts = {item.joint for item in source.actuators if item.interface == "effort"}
    return all(holding[joint] <= HELD * figures.effort[joint] for joint in efforts)


def _contacts(source: Source, positions: Array) -> set[tuple[int, int]]:
    """Pairs of geoms that touch."""
    data = mujoco.MjData(source.model)
    data.qpos[source.positions] = positions
    mujoco.mj_forward(source.model, data)
    return {(int(contact.geom1), int(contact.geom2)) for contact in data.contact}


def _highest(source: Source, figures: Figures, loose: list[int]) -> Array:
    """The configuration [joints] with the most potential energy in the joints `loose`, the others where they start."""
    model, data = source.model, mujoco.MjData(source.model)

    def energy(positions: Array) -> float:
        data.qpos[source.positions] = positions
        mujoco.mj_forward(model, data)
        mujoco.mj_energyPos(model, data)
        return float(data.energy[0])

    random = np.random.default_rng(0)
    best, most = figures.start.copy(), energy(figures.start)
    for attempt in range(CANDIDATES):
        positions = figures.start.copy()
        positions[loose] = random.uniform(figures.lower[loose], figures.upper[loose])
        if attempt == 0:
            positions = figures.start.copy()
        if (value := energy(positions)) > most:
            best, most = positions, value
    width = 0.3
    while width > 1e-5:
        moved = False
        for number in loose:
            for sign in (-1.0, 1.0):
                positions = best.copy()
                low, high = source.joints[number].limits
                positions[number] = min(max(best[number] + sign * width, low), high)
                if (value := energy(positions)) > most + 1e-12:
                    best, most, moved = positions, value, True
        width = width if moved else 0.5 * width
    return best


def _joints(source: Source, figures: Figures, goals: Mapping[str, float]) -> FirstTask:
    names = [joint.name for joint in source.joints]
    for name, value in goals.items():
        if name not in names:
            raise NewRobotError(f"goal: no joint {name!r} in {source.path}; joints there: {', '.join(names)}")
        low, high = source.joints[names.index(name)].limits
        if not low <= value <= high:
            raise NewRobotError(f"goal of joint {name!r}: got {value:g}, expected {low:g} to {high:g}, its limits")
    parameters: dict[str, float] = {"joints": len(names), "actions": len(source.actuators), "width": 0.15}
    goal = []
    for number, joint in enumerate(source.joints):
        if joint.name in goals:
            turns = joint.kind == "angular" and not joint.limited
            parameters[f"{'turn' if turns else 'joint'}_{number}"] = _short(figures.span[number])
            goal.append(goals[joint.name])
    task = JointTarget(
        tuple(goal),
        {**parameters, **_speeds(source, figures, set(range(len(names))))},
        _weights(source, 1.0, swings=False),
    )
    text = ", ".join(f"{name} to {value:g}" for name, value in goals.items())
    return FirstTask(task, f"Bring {text} and keep it there.", _steps(figures, False), False)
