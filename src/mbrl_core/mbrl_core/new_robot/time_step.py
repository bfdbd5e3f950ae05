# SPDX-License-Identifier: Apache-2.0
"""Whether an MJCF's time step and integrator are good enough for the motors that it has."""

import numpy as np

from mbrl_core.new_robot.figures import Figures
from mbrl_core.new_robot.motions import play
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
        coarse, fine = (play(source, figures, motion, cut)[0][-1] for cut in (1, 4))
        errors.append(float(np.mean(np.abs(fine - coarse) / figures.span)))
    return float(np.median(errors)) if np.isfinite(errors).all() else np.inf
