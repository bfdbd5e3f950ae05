# SPDX-License-Identifier: Apache-2.0
"""A learned reward over two state variables, beside the true one, with what was shown."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from common import RESULTS

from mbrl_core.demonstrations import Demonstration
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task

matplotlib.use("Agg")
import matplotlib.pyplot as plt

POINTS = 161


def draw(
    name: str, spec: RobotSpec, learned: Task, true: Task, shown: Sequence[Demonstration], variables: tuple[int, int]
) -> Path:
    """Draws results/irl_NAME.png: both rewards over two state variables, the others at zero, no action, as ranks: a
    planner sees no difference between rewards of one order of all trajectories. Returns the path.
    """
    visited = np.concatenate([each.states for each in shown])[:, list(variables)]
    low, high = visited.min(axis=0), visited.max(axis=0)
    margin = 0.1 * (high - low)
    axes = [np.linspace(*ends, POINTS) for ends in zip(low - margin, high + margin, strict=True)]
    states = np.zeros((POINTS, POINTS, spec.state.size))
    states[..., variables[0]], states[..., variables[1]] = np.meshgrid(*axes, indexing="xy")
    action = np.zeros((POINTS, POINTS, spec.action.size))
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.8), sharey=True, layout="constrained")
    for panel, task, title in zip(panels, (true, learned), ("true reward", "learned reward"), strict=True):
        values = task.reward(states, action, states)
        ranks = values.ravel().argsort().argsort().reshape(values.shape) / values.size
        panel.pcolormesh(*axes, ranks, cmap="viridis", shading="auto", rasterized=True)
        panel.plot(*visited.T, ".", color="white", markersize=1.0, alpha=0.35)
        panel.set_title(f"{title} (rank)")
        panel.set_xlabel(f"{spec.state.names[variables[0]]} ({spec.state.units[variables[0]]})")
    panels[0].set_ylabel(f"{spec.state.names[variables[1]]} ({spec.state.units[variables[1]]})")
    path = RESULTS / f"irl_{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
