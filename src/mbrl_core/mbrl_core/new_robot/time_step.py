# SPDX-License-Identifier: Apache-2.0
"""Whether an MJCF's time step and integrator are good enough for the motors that it has."""

import mujoco
import numpy as np

from mbrl_core.new_robot.figures import Figures
from mbrl_core.new_robot.source import Source

DURATION = 0.25  # s; longer ones tell how chaotic a robot is
MOTIONS = 5
TOO_MUCH = 0.02  # share of a joint's half range


def time_step_error(source: Source, figures: Figures, seed: int = 0) -> float:
    """How far a quarter of the time step moves the robot after 0.25 s of random actions: median over motions of the
    mean over joints, as a share of their half ranges; infinite where it diverges."""
    random = np.random.default_rng(seed)
    actions = random.uniform(-1.0, 1.0, (MOTIONS, max(1, round(DURATION / figures.period)), len(source.actuators)))
    errors = []
    for motion in actions:
        coarse, fine = (_end(source, figures, motion, cut) for cut in (1, 4))
        errors.append(float(np.mean(np.abs(fine - coarse) / figures.span)))
    return float(np.median(errors)) if np.isfinite(errors).all() else np.inf


def _end(source: Source, figures: Figures, motion: np.ndarray, cut: int) -> np.ndarray:
    """Positions [joints] after `motion` [periods, actions], with the time step cut into `cut`."""
    model = source.model
    before = model.opt.timestep
    model.opt.timestep = before / cut
    try:
        data = mujoco.MjData(model)
        data.qpos[source.positions] = figures.start
        for row in motion:
            for number, (actuator, action) in enumerate(zip(source.actuators, row, strict=True)):
                middle, half = 0.5 * (actuator.lower + actuator.upper), 0.5 * (actuator.upper - actuator.lower)
                control = figures.effort[actuator.joint] * action / actuator.gear
                data.ctrl[number] = control if actuator.interface == "effort" else middle + half * action
            mujoco.mj_step(model, data, figures.steps * cut)
        return data.qpos[source.positions].copy()
    finally:
        model.opt.timestep = before
