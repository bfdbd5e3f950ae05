# SPDX-License-Identifier: Apache-2.0
"""What a hand-over from a planner to a policy came to: criteria, words and a picture."""

import itertools
import statistics
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from mbrl_bringup.results import bar
from mbrl_bringup.run_files import Run
from mbrl_bringup.summary import RETURN_BOUNDS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PICTURE = "handover.png"
POLICY, SAFE = "policy", "safe"
COLOURS = {"planner": "tab:blue", POLICY: "tab:orange", SAFE: "tab:red"}
OTHER_COLOUR = "0.6"
# Returns between which a score is counted: random play and a perfect planner, where they are known.
SCALES = {"cartpole": (-4.0, 181.0)}
LAST = 2  # of the planner's trials are what the policy's are compared with


def has_policy_trials(run: Run) -> bool:
    """Whether a policy had trials after another learned controller."""
    return bool(_rows(run, POLICY)) and bool(_rows(run, ""))


def score(run: Run, value: float) -> float:
    """(R - R_random) / (R_oracle - R_random); where these are not known, of the run's own random and best trials."""
    low, high = SCALES.get(run.information["robot"]) or (min(run.returns()), max(run.returns()))
    return (value - low) / (high - low) if high > low else float("nan")


def handover_bars(run: Run) -> list[dict[str, Any]]:
    """The planner has learned; the policy is worth as much, within 5 % of the score; no tick is missed; and it is
    the policy that acts.
    """
    planner = statistics.fmean(row["return"] for row in _rows(run, "")[-LAST:])
    policy = statistics.fmean(row["return"] for row in _rows(run, POLICY))
    bound = RETURN_BOUNDS.get(run.information["robot"])
    bars = [] if bound is None else [bar("mean_return_of_planner", planner, at_least=bound)]
    served = _served(run, [row["trial"] for row in _rows(run, POLICY)])
    return [
        *bars,
        bar("score_lost_by_handover", score(run, planner) - score(run, policy), at_most=0.05),
        bar("missed_ticks", missed_ticks(run), at_most=0),
        bar("share_of_ticks_served_by_policy", float(np.mean(served == POLICY)), at_least=0.5),
        bar("handovers_while_moving", handovers(run), at_least=1),
    ]


def missed_ticks(run: Run) -> int:
    """Ticks of the policy's trials that nobody's plan served, or whose time step did not come."""
    rows = _rows(run, POLICY)
    served = _served(run, [row["trial"] for row in rows])
    return int(np.sum(served == SAFE)) + sum(row["lost_time_steps"] for row in rows)


def handovers(run: Run) -> int:
    """How often the policy took over from the planner in the middle of an episode."""
    count = 0
    for row in _rows(run, POLICY):
        served = _served(run, [row["trial"]])
        count += int(np.sum((served[1:] == POLICY) & (served[:-1] != POLICY)))
    return count


def print_handover(run: Run) -> None:
    """Says who moved the robot in the policy's trials."""
    for row in _rows(run, POLICY):
        served = _served(run, [row["trial"]])
        changes = np.flatnonzero(served[1:] != served[:-1]) + 1
        spans = [str(served[0]), *(f"from step {step} {served[step]}" for step in changes)]
        print(f"trial {row['trial']}, return {row['return']:.1f}: {', '.join(spans)}")


def draw(run: Run) -> Path:
    """Draws handover.png: the planner's last trial and the policy's, and who moves the robot at each step."""
    chosen = [_rows(run, "")[-1], *_rows(run, POLICY)]
    state_size, action_size = run.steps["state"].shape[1], run.steps["action"].shape[1]
    labels = [*(f"state {index}" for index in range(state_size)), *(f"action {index}" for index in range(action_size))]
    labels.append("reward")
    figure, axes = plt.subplots(
        len(labels), len(chosen), figsize=(3.6 * len(chosen), 1.5 * len(labels)), sharex=True, sharey="row",
        squeeze=False,
    )  # fmt: skip
    for column, row in enumerate(chosen):
        mask = run.steps["trial"] == row["trial"]
        time = run.steps["step"][mask] * run.information["period"]
        values = [*run.steps["state"][mask].T, *run.steps["action"][mask].T, run.steps["reward"][mask]]
        served = run.steps["controller"][mask]
        for axis, label, series in zip(axes[:, column], labels, values, strict=True):
            _shade(axis, time, served)
            axis.plot(time, series, color="black", linewidth=1.0)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[0, column].set_title(f"trial {row['trial']}: return {row['return']:.1f}", fontsize="medium")
        axes[-1, column].set_xlabel("time (s)")
    names = [name for name in COLOURS if name in set(run.steps["controller"])]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[name], alpha=0.3) for name in names]
    figure.legend(handles, [f"{name} moves the robot" for name in names], loc="lower center", ncols=len(names))
    figure.tight_layout(rect=(0.0, 0.03, 1.0, 1.0))
    path = run.directory / PICTURE
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _shade(axis: "plt.Axes", time: np.ndarray, served: np.ndarray) -> None:
    # The controller of a row moved the robot over the interval that ended there.
    edges = [1, *(np.flatnonzero(served[2:] != served[1:-1]) + 2), len(served)]
    for begin, end in itertools.pairwise(edges):
        colour = COLOURS.get(str(served[begin]), OTHER_COLOUR)
        axis.axvspan(time[begin - 1], time[end - 1], color=colour, alpha=0.3, linewidth=0.0)


def _rows(run: Run, controller: str) -> list[dict[str, Any]]:
    """Trials of the policy, or learned ones of all others where `controller` is empty."""
    learned = [row for row in run.metrics if row["learned"]]
    if controller:
        return [row for row in learned if row["controller"] == controller]
    return [row for row in learned if row["controller"] != POLICY]


def _served(run: Run, trials: list[int]) -> np.ndarray:
    """Who served each tick of these trials."""
    mask = np.isin(run.steps["trial"], trials) & (run.steps["step"] > 0)
    return np.asarray(run.steps["controller"][mask])
