# SPDX-License-Identifier: Apache-2.0
"""Scores over demonstrations, one panel a problem."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _versions_plot import interval, plt
from common import RESULTS


def draw(rows: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Path:
    """Draws results/imitation.png. Returns the path."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure, panels = plt.subplots(1, len(problems), figsize=(5.0 * len(problems), 3.8), squeeze=False,
                                  layout="constrained")  # fmt: skip
    for panel, problem in zip(panels[0], problems, strict=True):
        own = [row for row in rows if row["problem"] == problem]
        seeds = sorted({row["seed"] for row in own})
        lowest = []
        for method in dict.fromkeys(row["method"] for row in own):
            found = {(row["seed"], row["demonstrations"]): row["S"] for row in own if row["method"] == method}
            middle, low, high = interval(np.array([[found[seed, size] for size in sizes] for seed in seeds]))
            (line,) = panel.plot(sizes, middle, marker="o", markersize=3, label=method.replace("_", " "))
            panel.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            lowest.append(middle.min())
        panel.set_ylim(max(min(lowest) - 0.1, -1.0), 1.05)
        panel.set_xscale("log")
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.set_title(problem)
        panel.set_xlabel("demonstrations (50 labels each)")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("score S (0 random, 1 expert)")
    panels[0][-1].legend(loc="lower right", fontsize=8)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "imitation.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
