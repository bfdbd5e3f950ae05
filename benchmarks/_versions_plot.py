# SPDX-License-Identifier: Apache-2.0
"""Learning curves of the versions, one panel a robot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _curves import draw_curves, make_panels, save


def draw(rows: Sequence[dict[str, Any]], versions: Sequence[str]) -> Path:
    """Draws results/versions.png. Returns the path."""
    robots = list(dict.fromkeys(row["robot"] for row in rows))
    figure, panels = make_panels(robots, "score S (0 random, 1 unhurried planner)")
    for robot, panel in panels.items():
        curves = {}
        for version in versions:
            own = [row for row in rows if (row["robot"], row["version"]) == (robot, version)]
            seeds = sorted({row["seed"] for row in own})
            times = sorted({row["robot_seconds"] for row in own})
            found = {(row["seed"], row["robot_seconds"]): row["score"] for row in own}
            curves[version] = times, np.array([[found[seed, time] for time in times] for seed in seeds])
        draw_curves(panel, robot, "robot time (s)", curves)
    panels[robots[-1]].legend(loc="best", fontsize=8)
    return save(figure, "versions")
