# SPDX-License-Identifier: Apache-2.0
"""Scores over demonstrations, one panel a problem."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _curves import draw_curves, make_panels, save


def draw(rows: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Path:
    """Draws results/imitation.png. Returns the path."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure, panels = make_panels(problems, "score S (0 random, 1 expert)")
    for problem, panel in panels.items():
        own = [row for row in rows if row["problem"] == problem]
        seeds = sorted({row["seed"] for row in own})
        curves = {}
        for method in dict.fromkeys(row["method"] for row in own):
            found = {(row["seed"], row["demonstrations"]): row["S"] for row in own if row["method"] == method}
            values = np.array([[found[seed, size] for size in sizes] for seed in seeds])
            curves[method.replace("_", " ")] = sizes, values
        draw_curves(panel, problem, "demonstrations (50 labels each)", curves)
        panel.set_xscale("log")
        panel.set_xticks(sizes, [str(size) for size in sizes])
    panels[problems[-1]].legend(loc="lower right", fontsize=8)
    return save(figure, "imitation")
