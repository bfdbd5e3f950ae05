# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: the learning curve, and what the model and the control loop did along it."""

import os
import sys
from pathlib import Path

import matplotlib
import numpy as np

from mbrl_bringup import ledger
from mbrl_bringup.run_files import Run, RunError, read_run

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LEARNING_CURVE = "learning_curve.png"
TRIALS = "trials.png"
LEDGER = "ledger.png"
RANDOM_COLOUR, LEARNED_COLOUR, EVALUATION_COLOUR = "0.6", "tab:blue", "tab:green"


def main(directory: str | Path, with_ledger: bool = False) -> int:
    """Draws all pictures of the run again, the regret ledger's after making it if asked. Returns the exit status."""
    try:
        run = read_run(directory)
        if with_ledger:
            _make_ledger(run)
        for path in draw(run):
            print(path)
    except RunError as error:
        print(f"plots: {error}", file=sys.stderr)
        return 1
    return 0


def draw(run: Run) -> list[Path]:
    """Draws learning_curve.png, trials.png and, where there is a ledger.json, ledger.png into the run's folder.

    Returns their paths. Raises RunError on a damaged ledger.
    """
    rows = ledger.read_ledger(run.directory)
    return [_learning_curve(run), _trials(run), *([draw_ledger(rows, run.directory / LEDGER)] if rows else [])]


def _make_ledger(run: Run) -> None:
    # Here: only the ledger needs torch and MuJoCo.
    from mbrl_bringup.ledger_trials import make_ledger, read_inputs

    rows = make_ledger(read_inputs(run, threads=len(os.sched_getaffinity(0))))
    ledger.write_ledger(run.directory, rows)
    print(ledger.text(rows))


def draw_ledger(rows: list[dict[str, float]], path: Path, title: str = "") -> Path:
    """Draws where return was lost: from the unhurried planner down to what was realised, and the losses by themselves
    with their intervals."""
    means = ledger.stage_means(rows)
    lost = [loss for loss in ledger.losses(rows) if loss.cause != "total"]
    figure, (whole, parts) = plt.subplots(1, 2, figsize=(9.0, 4.5), width_ratios=[3, 2])
    ends = {0: means[ledger.STAGES[0]], len(lost) + 1: means[ledger.STAGES[-1]]}
    whole.axhline(means["random"], color=RANDOM_COLOUR, linestyle=":", label="random actions")
    for place, value in ends.items():
        whole.bar(place, value - means["random"], bottom=means["random"], color=LEARNED_COLOUR, width=0.6)
        whole.annotate(f"{value:.1f}", (place, value), textcoords="offset points", xytext=(0, 4), ha="center")
    for place, loss in enumerate(lost, start=1):
        colour = "tab:red" if loss.mean > 0.0 else EVALUATION_COLOUR
        whole.bar(place, -loss.mean, bottom=means[ledger.LOSSES[loss.cause][0]], color=colour, width=0.6)
        parts.bar(place, loss.mean, color=colour, width=0.6)
        if np.isfinite(loss.lower):
            # The mean is inside, but for rounding.
            errors = np.clip([[loss.mean - loss.lower], [loss.upper - loss.mean]], 0.0, None)
            parts.errorbar(place, loss.mean, yerr=errors, color="black", capsize=4)
    causes = [loss.cause for loss in lost]
    whole.set_xticks(range(len(lost) + 2), ["unhurried,\ntrue model", *causes, "realised"])
    whole.set_ylabel("return")
    whole.legend(loc="center")
    parts.set_xticks(range(1, len(lost) + 1), causes)
    parts.set_ylabel("return lost to")
    parts.axhline(0.0, color="black", linewidth=0.8)
    parts.set_title("with 95 % intervals", fontsize="medium")
    whole.set_title(f"{title or path.parent.name}: {len(rows)} episodes", fontsize="medium")
    for axis in (whole, parts):
        axis.use_sticky_edges = False
        axis.margins(y=0.12)
        axis.grid(alpha=0.3, axis="y")
    return _save(figure, path)


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
