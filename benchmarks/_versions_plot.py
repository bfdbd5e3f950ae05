# SPDX-License-Identifier: Apache-2.0
"""Learning curves of the versions, one panel a robot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from _learning import RESAMPLES, interquartile_mean
from common import RESULTS

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile mean over seeds of values [seeds, points], and its two-sided 90 % bootstrap interval, each
    [points].
    """
    random = np.random.default_rng(0)
    draws = random.integers(0, len(values), (RESAMPLES, len(values)))
    means = np.stack([interquartile_mean(column[draws]) for column in values.T], axis=1)
    low, high = np.percentile(means, [5.0, 95.0], axis=0)
    return interquartile_mean(values.T), low, high


def draw(rows: Sequence[dict[str, Any]], versions: Sequence[str]) -> Path:
    """Draws results/versions.png. Returns the path."""
    robots = list(dict.fromkeys(row["robot"] for row in rows))
    figure, panels = plt.subplots(1, len(robots), figsize=(5.0 * len(robots), 3.8), squeeze=False, layout="constrained")
    for panel, robot in zip(panels[0], robots, strict=True):
        lowest = []
        for version in versions:
            own = [row for row in rows if (row["robot"], row["version"]) == (robot, version)]
            seeds = sorted({row["seed"] for row in own})
            times = sorted({row["robot_seconds"] for row in own})
            found = {(row["seed"], row["robot_seconds"]): row["score"] for row in own}
            middle, low, high = interval(np.array([[found[seed, time] for time in times] for seed in seeds]))
            (line,) = panel.plot(times, middle, marker="o", markersize=3, label=version)
            panel.fill_between(times, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            lowest.append(middle.min())
        panel.set_ylim(max(min(lowest) - 0.1, -1.0), 1.05)
        panel.set_title(robot)
        panel.set_xlabel("robot time (s)")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("score S (0 random, 1 unhurried planner)")
    panels[0][-1].legend(loc="best", fontsize=8)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "versions.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
