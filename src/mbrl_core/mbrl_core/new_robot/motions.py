# SPDX-License-Identifier: Apache-2.0
"""Random motions of an unknown robot, in MuJoCo: what its time step and its exploration are judged by."""

import mujoco
import numpy as np

from mbrl_core.new_robot.figures import GENTLEST, Figures
from mbrl_core.new_robot.source import Source
from mbrl_core.specs import Array

SHARES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08)  # of the actions, from the boldest exploration on
MOTIONS = 8
HOLD = 5  # control periods for which an action is held: about as red as the noise that explores
PERIODS_TO_FLY = 2.0  # a joint that crosses half its range in so few control periods is out of hand


def play(source: Source, figures: Figures, motion: Array, cut: int = 1) -> tuple[Array, Array]:
    """Positions and velocities [periods, joints] after each row of `motion` [periods, actions], normalised actions,
    from rest at the start, with the MJCF's time step cut into `cut`. SI units of the joints. Where it diverges, MuJoCo
    leaves values that are not finite, or begins anew."""
    model = source.model
    before = model.opt.timestep
    model.opt.timestep = before / cut
    positions, velocities = [], []
    try:
        data = mujoco.MjData(model)
        data.qpos[source.positions] = figures.start
        for row in motion:
            for number, (actuator, action) in enumerate(zip(source.actuators, row, strict=True)):
                middle, half = 0.5 * (actuator.lower + actuator.upper), 0.5 * (actuator.upper - actuator.lower)
                control = figures.effort[actuator.joint] * action / actuator.gear
                data.ctrl[number] = control if actuator.interface == "effort" else middle + half * action
            mujoco.mj_step(model, data, figures.steps * cut)
            positions.append(data.qpos[source.positions].copy())
            velocities.append(data.qvel[source.velocities].copy())
    finally:
        model.opt.timestep = before
    return np.array(positions), np.array(velocities)


def bold_share(source: Source, figures: Figures, periods: int, seed: int = 0) -> float:
    """The largest share of the efforts at which no joint gets out of hand in episodes of random actions, `periods`
    control periods long: it stays below a speed that crosses half its range in two of them.

    A light link far out is spun by all motors before it; at such speeds nothing is learned that a task could use, an
    integrator may diverge, and on a real robot it would be the last time. 1 where the commands are no efforts.
    """
    if any(actuator.interface != "effort" for actuator in source.actuators):
        return 1.0
    random = np.random.default_rng(seed)
    drawn = random.uniform(-1.0, 1.0, (MOTIONS, -(-periods // HOLD), len(source.actuators)))
    most = figures.span / (PERIODS_TO_FLY * figures.period)
    for share in SHARES:
        motions = (share * np.repeat(motion, HOLD, axis=0)[:periods] for motion in drawn)
        if all(_in_hand(source, figures, motion, most) for motion in motions):
            return share
    return GENTLEST


def _in_hand(source: Source, figures: Figures, motion: Array, most: Array) -> bool:
    speeds = np.abs(play(source, figures, motion)[1])
    return bool((speeds <= most).all())  # not where they are not finite
