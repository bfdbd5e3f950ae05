# SPDX-License-Identifier: Apache-2.0
"""Score over model calls of every planner, one panel a robot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from common import RESULTS

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(rows: Sequence[dict[str, Any]], budgets: Sequence[int]) -> Path:
    """Draws results/planners.png: mean over seeds with its standard error. Returns the path."""
    robots = list(dict.fromkeys(row["robot"] for row in rows))
    planners = list(dict.fromkeys(row["planner"] for row in rows))
    figure, panels = plt.subplots(1, len(robots), figsize=(4.6 * len(robots), 4.2), squeeze=False, layout="constrained")
    colours = dict(zip(planners, plt.get_cmap("tab20").colors, strict=False))
    for panel, robot in zip(panels[0], robots, strict=True):
        lowest = []
        for planner in planners:
            scores = [
                [row["score"] for row in rows if (row["robot"], row["planner"], row["budget"]) == (robot, planner, one)]
                for one in budgets
            ]
            if not all(scores):
                continue
            means = np.array([np.mean(values) for values in scores])
            errors = [np.std(values) / len(values) ** 0.5 for values in scores]
            style = "--" if planner.startswith("pytorch") else "-"
            panel.errorbar(
                budgets, means, errors, label=planner, color=colours[planner], linestyle=style, marker="o", markersize=3
            )
            lowest.append(means.min())
        panel.set_xscale("log")
        panel.set_xticks(budgets, [str(one) for one in budgets])
        panel.minorticks_off()
        panel.set_ylim(max(min(lowest) - 0.03, -0.1), 1.05)
        panel.set_title(robot)
        panel.set_xlabel("model calls a plan")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("score S (0 random, 1 unhurried planner)")
    handles, labels = max((panel.get_legend_handles_labels() for panel in panels[0]), key=lambda both: len(both[1]))
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "planners.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
