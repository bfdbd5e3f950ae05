# SPDX-License-Identifier: Apache-2.0
"""Pictures of recordings: an episode over time, and how the variables of a data set are distributed."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from mbrl_core.demonstrations import Demonstration, Outcome
from mbrl_core.specs import RobotSpec

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {Outcome.UNLABELLED: "tab:blue", Outcome.SUCCESS: "tab:green", Outcome.FAILURE: "tab:red"}
BINS = 40


def draw(demonstrations: Sequence[Demonstration], spec: RobotSpec, path: Path) -> Path:
    """A row for each variable: on the left over time, by outcome, gaps left open; on the right its histogram."""
    rows = spec.state.size + spec.action.size
    figure, axes = plt.subplots(rows, 2, figsize=(10.0, 1.6 * rows + 0.6), width_ratios=[4, 1], squeeze=False)
    labels = [f"{name} [{unit}]" for name, unit in zip(spec.state.names, spec.state.units, strict=True)]
    labels += [f"{name} [{scale:g} {unit}]" for name, scale, unit in
               zip(spec.action.names, spec.action.scale, spec.action.units, strict=True)]  # fmt: skip
    for row, label in enumerate(labels):
        over_time, histogram = axes[row]
        values = []
        for item in demonstrations:
            column = item.states[:, row] if row < spec.state.size else item.actions[:, row - spec.state.size]
            times = spec.period * (item.first_step + np.arange(len(column)))
            over_time.plot(
                times, column, color=COLOURS[item.outcome], linewidth=0.8, marker=".", markersize=2, alpha=0.7
            )
            values.append(column)
        histogram.hist(np.concatenate(values), bins=BINS, orientation="horizontal", color="0.5")
        histogram.sharey(over_time)
        histogram.tick_params(labelleft=False)
        over_time.set_ylabel(label, fontsize="small")
    axes[-1, 0].set_xlabel("s in the episode")
    axes[-1, 1].set_xlabel("steps")
    present = sorted({item.outcome for item in demonstrations})
    handles = [plt.Line2D([], [], color=COLOURS[outcome], label=outcome.name.lower()) for outcome in present]
    figure.legend(handles=handles, loc="upper right", ncols=len(handles))
    episodes = len({item.episode for item in demonstrations})
    figure.suptitle(f"{spec.name}: {episodes} episodes, {sum(map(len, demonstrations))} steps", x=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
