# SPDX-License-Identifier: Apache-2.0
"""Scores as curves with intervals, one panel a problem: what learning curves of several benchmarks look like."""

from collections.abc import Mapping, Sequence
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


def make_panels(titles: Sequence[str], ylabel: str) -> tuple[Any, dict[str, Any]]:
    """A figure, and its panels by title, side by side."""
    figure, panels = plt.subplots(1, len(titles), figsize=(5.0 * len(titles), 3.8), squeeze=False, layout="constrained")
    panels[0][0].set_ylabel(ylabel)
    return figure, dict(zip(titles, panels[0], strict=True))


def draw_curves(panel: Any, title: str, xlabel: str, curves: Mapping[str, tuple[Sequence[float], np.ndarray]]) -> None:
    """Draws curves by label: points [points] and values [seeds, points] of each."""
    lowest = []
    for label, (points, values) in curves.items():
        middle, low, high = interval(values)
        (line,) = panel.plot(points, middle, marker="o", markersize=3, label=label)
        panel.fill_between(points, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        lowest.append(middle.min())
    panel.set_ylim(max(min(lowest) - 0.1, -1.0), 1.05)
    panel.set_title(title)
    panel.set_xlabel(xlabel)
    panel.grid(alpha=0.3)


def save(figure: Any, name: str) -> Path:
    """Writes results/NAME.png and returns the path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
