# SPDX-License-Identifier: Apache-2.0
"""Rewards over two state variables, with the states that were shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import Task

POINTS = 161
MARGIN = 0.1  # of the range that was shown, beyond it


def draw_rewards(
    path: str | Path,
    spec: RobotSpec,
    rewards: Mapping[str, Task],
    shown: Sequence[Array],
    variables: tuple[int, int] | None = None,
) -> Path:
    """Draws rewards by their titles side by side, over two state variables, the others at the median of what was shown,
    no action, angles within one turn, as ranks: a planner sees no difference between rewards of one order of all
    trajectories.

    `shown` are states [T_i + 1, n]; `variables` those that the first reward depends on most where None. Returns `path`.
    Raises OSError.
    """
    visited = _within_one_turn(spec, np.concatenate(list(shown)))
    chosen = list(most_telling(next(iter(rewards.values())), visited) if variables is None else variables)
    low, high = visited[:, chosen].min(axis=0), visited[:, chosen].max(axis=0)
    margin = np.maximum(MARGIN * (high - low), 1e-6)
    axes = [np.linspace(*ends, POINTS) for ends in zip(low - margin, high + margin, strict=True)]
    states = np.tile(np.median(visited, axis=0), (POINTS, POINTS, 1))
    states[..., chosen] = np.stack(np.meshgrid(*axes, indexing="xy"), axis=-1)
    action = np.zeros((POINTS, POINTS, spec.action.size))
    figure = Figure(figsize=(4.6 * len(rewards), 3.8), layout="constrained")
    FigureCanvasAgg(figure)  # of its own: pyplot is not for threads
    panels = figure.subplots(1, len(rewards), sharey=True, squeeze=False)[0]
    labels = [f"{spec.state.names[index]} ({spec.state.units[index]})" for index in chosen]
    for panel, (title, task) in zip(panels, rewards.items(), strict=True):
        values = np.asarray(task.reward(states, action, states))
        ranks = values.ravel().argsort().argsort().reshape(values.shape) / values.size
        panel.pcolormesh(*axes, ranks, cmap="viridis", shading="auto", rasterized=True)
        panel.plot(*visited[:, chosen].T, ".", color="white", markersize=1.0, alpha=0.35)
        panel.set_title(f"{title} (rank)")
        panel.set_xlabel(labels[0])
    panels[0].set_ylabel(labels[1])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return Path(path)


def _within_one_turn(spec: RobotSpec, states: Array) -> Array:
    """Angles [N, n] within half a turn of their mean direction: whoever went round is drawn where he was."""
    mean = np.arctan2(np.sin(states).mean(axis=0), np.cos(states).mean(axis=0))
    near = mean + np.remainder(states - mean + np.pi, 2.0 * np.pi) - np.pi
    return np.where(np.array(spec.state.angular), near, states)


def most_telling(task: Task, visited: Array) -> tuple[int, int]:
    """The two state variables, in order, without which a reward changes most: each is shuffled among the states
    [N, n], as in permutation importance (Breiman 2001, "Random forests", section 10). The only one of a robot is told
    twice.
    """
    action = np.zeros((len(visited), task.action_size))
    values, random = np.asarray(task.reward(visited, action, visited)), np.random.default_rng(0)
    changes = []
    for variable in range(visited.shape[1]):
        shuffled = visited.copy()
        shuffled[:, variable] = random.permutation(visited[:, variable])
        changes.append(float(np.abs(np.asarray(task.reward(shuffled, action, shuffled)) - values).mean()))
    first, second = sorted(np.argsort(changes)[-2:]) if len(changes) > 1 else (0, 0)
    return int(first), int(second)
