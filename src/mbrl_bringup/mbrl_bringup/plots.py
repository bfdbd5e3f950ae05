# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: the learning curve, and what the model and the control loop did along it."""

import sys
from pathlib import Path

import matplotlib

from mbrl_bringup.run_files import Run, RunError, read_run

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LEARNING_CURVE = "learning_curve.png"
TRIALS = "trials.png"
RANDOM_COLOUR, LEARNED_COLOUR, EVALUATION_COLOUR = "0.6", "tab:blue", "tab:green"


def main(directory: str | Path) -> int:
    """Draws all pictures of the run again. Returns the exit status."""
    try:
        for path in draw(read_run(directory)):
            print(path)
    except RunError as error:
        print(f"plots: {error}", file=sys.stderr)
        return 1
    return 0


def draw(run: Run) -> list[Path]:
    """Draws learning_curve.png and trials.png into the run's folder and returns their paths."""
    return [_learning_curve(run), _trials(run)]


def _colour(row: dict[str, float]) -> str:
    if row["evaluation"]:
        return EVALUATION_COLOUR
    return LEARNED_COLOUR if row["learned"] else RANDOM_COLOUR


def _learning_curve(run: Run) -> Path:
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7.0, 6.0), sharex=True, height_ratios=[2, 1])
    trials = [row["trial"] for row in run.metrics]
    returns = [row["return"] for row in run.metrics]
    upper.plot(trials, returns, color="0.85", zorder=1)
    for label, colour in (("random", RANDOM_COLOUR), ("learned", LEARNED_COLOUR), ("evaluation", EVALUATION_COLOUR)):
        points = [(row["trial"], row["return"]) for row in run.metrics if _colour(row) == colour]
        if points:
            upper.scatter(*zip(*points, strict=True), color=colour, label=label, zorder=2)
    if len(trials) <= 12:
        for trial, value in zip(trials, returns, strict=True):
            upper.annotate(f"{value:.0f}", (trial, value), textcoords="offset points", xytext=(0, 7), ha="center")
    information = run.information
    upper.set_title(
        f"{information['robot']}, {information['algorithm']}, {information['mode']}, seed {information['seed']}"
    )
    upper.set_ylabel("return")
    upper.margins(0.08, 0.15)
    upper.legend(loc="best")
    upper.grid(alpha=0.3)
    lower.plot(trials, [row["prequential_error"] for row in run.metrics], "o-", color="tab:orange")
    lower.set_yscale("log")
    lower.set_ylabel("prequential error")
    lower.set_xlabel("trial")
    lower.xaxis.get_major_locator().set_params(integer=True)
    lower.grid(alpha=0.3)
    return _save(figure, run.directory / LEARNING_CURVE)


def _trials(run: Run) -> Path:
    """States, actions and rewards over time of the first and the last trial."""
    chosen = [run.metrics[0], run.metrics[-1]]
    state_size, action_size = run.steps["state"].shape[1], run.steps["action"].shape[1]
    rows = state_size + action_size + 1
    figure, axes = plt.subplots(rows, 1, figsize=(7.0, 1.6 * rows), sharex=True)
    for trial in chosen:
        of_trial = run.steps["trial"] == trial["trial"]
        time = run.steps["step"][of_trial] * run.information["period"]
        columns = [
            *((f"state {index}", run.steps["state"][of_trial, index]) for index in range(state_size)),
            *((f"action {index}", run.steps["action"][of_trial, index]) for index in range(action_size)),
            ("reward", run.steps["reward"][of_trial]),
        ]
        for axis, (label, values) in zip(axes, columns, strict=True):
            axis.plot(time, values, color=_colour(trial), label=f"trial {trial['trial']}", linewidth=1.0)
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
    axes[0].legend(loc="best")
    axes[-1].set_xlabel("time (s)")
    return _save(figure, run.directory / TRIALS)


def _save(figure: "plt.Figure", path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
