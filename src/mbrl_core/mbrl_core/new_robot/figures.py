# SPDX-License-Identifier: Apache-2.0
"""What the dynamics of an unknown robot say about a sensible control: inertias, gravity, times, efforts, start."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from mbrl_core.new_robot.source import Source
from mbrl_core.specs import Array

CONFIGURATIONS = 64
UNLIMITED = {"angular": math.pi, "linear": 1.0}  # half the range of a joint without limits, rad or m
SHORTEST_PERIOD, LONGEST_PERIOD = 0.02, 0.05  # s
ROUND_PERIODS = (0.02, 0.025, 0.04, 0.05)  # s: whole numbers of Hz, which ros2_control asks for
STEPS_TO_CROSS = 8  # control periods for crossing half a joint's range at full effort
STEPS_TO_SWING = 20  # control periods in the period of a small oscillation under gravity
CROSSING_TIME = {True: 0.6, False: 0.3}  # s for half the range at the effort used; whether all joints are driven
AT_REST = 0.02  # share of the largest gravity below which a configuration is an equilibrium
ZERO_EFFORT = 1e-9  # N or N m
TILT = 0.4  # rad or m: an action explores a balance as fast as it falls when it is that far out
GENTLEST = 0.05  # share of the actions
CREEP = 0.1  # rad or m that a joint creeps under the largest gravity


@dataclass(frozen=True)
class Figures:
    """Of each joint [joints], in the order of the source, SI units.

    `lower` and `upper`: its range, as far as it goes where there are no limits. `inertia`: the median of the mass
    matrix' diagonal, `response` that of its inverse. `gravity`: the largest effort that gravity and springs ask for.
    `effort`: what an action of 1 is, 0 without an actuator. `start`: where episodes begin. `period` (s) is a multiple
    of the time step.
    """

    lower: Array
    upper: Array
    inertia: Array
    response: Array
    gravity: Array
    effort: Array
    start: Array
    start_is_guessed: bool
    period: float
    steps: int

    @property
    def span(self) -> Array:
        """Half the range, at most that of a joint without limits."""
        return 0.5 * (self.upper - self.lower)


def figures_of(source: Source, period: float | None = None, seed: int = 0) -> Figures:
    """Computes them from the compiled model at random configurations; `period` (s) replaces the one that is found.

    Raises ValueError when `period` is no multiple of the time step.
    """
    random = np.random.default_rng(seed)
    lower, upper = _ranges(source)
    samples = random.uniform(lower, upper, (CONFIGURATIONS, len(lower)))
    inertias, responses, gravities = [], [], []
    for positions in samples:
        mass, gravity = mass_and_gravity(source, positions)
        inertias.append(np.diag(mass))
        responses.append(np.diag(np.linalg.inv(mass)))
        gravities.append(np.abs(gravity))
    inertia, response = np.median(inertias, axis=0), np.median(responses, axis=0)
    gravity = np.max(gravities, axis=0)
    effort = _efforts(source, lower, upper, inertia, gravity)
    start, guessed = _start(source, lower, upper, gravity)
    found = _period(source, lower, upper, inertia, gravity, effort) if period is None else period
    timestep = source.model.opt.timestep
    steps = max(1, math.floor(found / timestep + 1e-6)) if period is None else round(found / timestep)
    if period is not None and (steps < 1 or abs(steps * timestep - found) > 1e-9):
        raise ValueError(
            f"period: got {found:g} s, expected a multiple of the time step {timestep:g} s of {source.path}"
        )
    return Figures(lower, upper, inertia, response, gravity, effort, start, guessed, round(steps * timestep, 12), steps)


def mass_and_gravity(source: Source, positions: Array) -> tuple[Array, Array]:
    """Mass matrix [joints, joints], and the efforts [joints] that hold the robot at `positions` [joints]."""
    model = source.model
    data = mujoco.MjData(model)
    data.qpos[source.positions] = positions
    mujoco.mj_forward(model, data)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, mass)
    holding = data.qfrc_bias - data.qfrc_passive
    return mass[np.ix_(source.velocities, source.velocities)], holding[source.velocities].copy()


def balancing_share(source: Source, figures: Figures, balance: Array, free: Sequence[int]) -> float:
    """Share of the actions with which the joints `free`, which nothing drives, leave an unstable equilibrium `balance`
    [joints] about as fast as they fall by themselves: at TILT.

    With more, a random action throws them over before it has said anything about the balance, and all data is of the
    fall; with less, what an action does goes under in it. Of a joint i: a_i = (M^-1 (K tilt - u))_i with mass matrix M
    and stiffness K of gravity.
    """
    mass, holding = mass_and_gravity(source, balance)
    inverse, step, shares = np.linalg.inv(mass), 1e-4, [1.0]
    efforts = [actuator.joint for actuator in source.actuators if actuator.interface == "effort"]
    for joint in free:
        tilted = balance.copy()
        tilted[joint] += step
        fall = TILT * abs(inverse[joint] @ (mass_and_gravity(source, tilted)[1] - holding)) / step
        push = max((abs(inverse[joint, other]) * figures.effort[other] for other in efforts), default=0.0)
        if push > ZERO_EFFORT:
            shares.append(fall / push)
    return float(f"{max(min(shares), GENTLEST):.2g}")


def _ranges(source: Source) -> tuple[Array, Array]:
    ranges = []
    for joint in source.joints:
        low, high = joint.limits
        most = UNLIMITED[joint.kind]
        centre = float(source.model.qpos0[joint.position])
        if np.isfinite(low) and np.isfinite(high):
            centre = min(max(centre, low + most), high - most) if high - low > 2.0 * most else 0.5 * (low + high)
        ranges.append((max(low, centre - most), min(high, centre + most)))
    lower, upper = np.array(ranges).T
    return lower, upper


def _efforts(source: Source, lower: Array, upper: Array, inertia: Array, gravity: Array) -> Array:
    """What an action of 1 is: what the motor can do, but no more than what gravity, friction and a brisk motion need.

    A motor that could throw its joint through its range in no time is nothing to explore with.
    """
    model, efforts = source.model, np.zeros(len(source.joints))
    time = CROSSING_TIME[len(source.driven) == len(source.joints)]
    for actuator in source.actuators:
        joint = actuator.joint
        if actuator.interface != "effort":
            efforts[joint] = actuator.bound
            continue
        degree = source.joints[joint].velocity
        half = 0.5 * (upper[joint] - lower[joint])
        needed = 2.0 * (gravity[joint] + model.dof_frictionloss[degree]) + inertia[joint] * 4.0 * half / time**2
        needed += model.dof_damping[degree] * half / time
        efforts[joint] = min(actuator.bound, _round_up(needed))
    return efforts


def _round_up(value: float) -> float:
    """To two digits."""
    if value <= ZERO_EFFORT:
        return ZERO_EFFORT
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / digit) * digit:.6g}")


def _period(source: Source, lower: Array, upper: Array, inertia: Array, gravity: Array, effort: Array) -> float:
    times = [LONGEST_PERIOD]
    efforts = {actuator.joint for actuator in source.actuators if actuator.interface == "effort"}
    for joint in range(len(lower)):
        half = 0.5 * (upper[joint] - lower[joint])
        if joint in efforts and effort[joint] > ZERO_EFFORT:
            crossing = 2.0 * math.sqrt(half / (effort[joint] / inertia[joint]))
            crossing = max(crossing, half * source.model.dof_damping[source.joints[joint].velocity] / effort[joint])
            times.append(crossing / STEPS_TO_CROSS)
        if gravity[joint] > ZERO_EFFORT and source.joints[joint].kind == "angular":
            times.append(2.0 * math.pi * math.sqrt(inertia[joint] / gravity[joint]) / STEPS_TO_SWING)
    longest, timestep = max(SHORTEST_PERIOD, min(times)), source.model.opt.timestep
    whole = [period for period in ROUND_PERIODS
             if period <= longest + 1e-9 and abs(period / timestep - round(period / timestep)) < 1e-6]  # fmt: skip
    return max(whole, default=longest)


def _start(source: Source, lower: Array, upper: Array, gravity: Array) -> tuple[Array, bool]:
    """The first keyframe; else the reference configuration, where what nothing drives comes to rest. Inside limits."""
    model = source.model
    if model.nkey:
        return model.key_qpos[0][source.positions].copy(), False
    start = model.qpos0[source.positions].copy()
    for number, joint in enumerate(source.joints):
        if joint.limited:
            margin = 0.1 * (joint.limits[1] - joint.limits[0])
            start[number] = min(max(start[number], joint.limits[0] + margin), joint.limits[1] - margin)
    free = [number for number in range(len(start)) if number not in source.driven]
    holding = mass_and_gravity(source, start)[1]
    if all(abs(holding[number]) <= AT_REST * max(gravity[number], ZERO_EFFORT) for number in free):
        return start, True
    return _come_to_rest(source, start, free, gravity), True


def _come_to_rest(source: Source, start: Array, free: list[int], gravity: Array) -> Array:
    """Where the joints `free` end when they creep from `start` under gravity and the others are held."""
    positions = start.copy()
    for _ in range(2000):
        holding = mass_and_gravity(source, positions)[1]
        moved = positions.copy()
        for number in free:
            low, high = source.joints[number].limits
            creep = CREEP * holding[number] / max(gravity[number], ZERO_EFFORT)
            moved[number] = min(max(positions[number] - creep, low), high)
        if np.abs(moved - positions).max() < 1e-7:
            break
        positions = moved
    return positions
