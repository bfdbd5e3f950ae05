# SPDX-License-Identifier: Apache-2.0
"""The regret ledger: what a planner's budget, the learned model, and asynchronous real time cost a run, step by step.

    unhurried   a planner that takes all the time it needs, through the true dynamics
    budget      the run's planner with its configured iterations, through the true dynamics
    model       the same through what the run has learned, the model of its newest checkpoint
    real        what the run really got

All are episodes from the same start states with the same goals; the first three are offline, in lockstep
(`mbrl_bringup.ledger_trials`). Their differences are what planner, model and latency cost, and add up to
unhurried - real.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbrl_bringup.run_files import RunError
from mbrl_core.checkpoint import write_atomically

LEDGER = "ledger.json"
STAGES = ("unhurried", "budget", "model", "real")
LOSSES = {"planner": ("unhurried", "budget"), "model": ("budget", "model"), "latency": ("model", "real")}
RESAMPLES = 10_000


@dataclass(frozen=True)
class Loss:
    """Mean return lost to one cause, with the two-sided 95 % bootstrap interval of the mean; NaN from one group."""

    cause: str
    mean: float
    lower: float
    upper: float


def losses(rows: Sequence[Mapping[str, float]]) -> list[Loss]:
    """Losses by cause and their `total`. Episodes of a seed share a model: where there are several seeds, seeds are
    resampled, else episodes. Means, not interquartile means: only those add up."""
    several = len({row["seed"] for row in rows}) > 1
    groups: dict[float, list[Mapping[str, float]]] = {}
    for row in rows:
        groups.setdefault(row["seed"] if several else row["episode"], []).append(row)
    causes = {**LOSSES, "total": (STAGES[0], STAGES[-1])}
    data = np.array(
        [[np.mean([row[a] - row[b] for row in group]) for a, b in causes.values()] for group in groups.values()]
    )
    picks = np.random.default_rng(0).integers(0, len(data), (RESAMPLES, len(data)))
    bounds = np.percentile(data[picks].mean(axis=1), [2.5, 97.5], axis=0)
    if len(data) < 2:
        bounds = np.full_like(bounds, np.nan)
    return [
        Loss(cause, float(data[:, index].mean()), float(bounds[0, index]), float(bounds[1, index]))
        for index, cause in enumerate(causes)
    ]


def stage_means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean return of each stage and of `random`, seeds weighing the same."""
    seeds = sorted({row["seed"] for row in rows})
    return {
        stage: float(np.mean([np.mean([row[stage] for row in rows if row["seed"] == seed]) for seed in seeds]))
        for stage in (*STAGES, "random")
    }


def text(rows: Sequence[Mapping[str, float]]) -> str:
    """The ledger as lines: what was lost to what, in return and in percent of the score."""
    means = stage_means(rows)
    span = means["unhurried"] - means["random"]
    lines = [f"{'unhurried planner, true dynamics':<34} {means['unhurried']:>9.2f}"]
    for loss in losses(rows):
        if loss.cause != "total":
            share = 100.0 * loss.mean / span if span else float("nan")
            interval = f"[{loss.lower:.2f}, {loss.upper:.2f}]" if np.isfinite(loss.lower) else "[one sample]"
            lines.append(
                f"{'  lost to ' + loss.cause:<34} {loss.mean:>9.2f}  {interval:>18} {share:>6.1f} % of the score"
            )
    return "\n".join([*lines, f"{'realised':<34} {means['real']:>9.2f}"])


def write_ledger(directory: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes ledger.json beside the run's other files. Raises OSError."""
    write_atomically(directory / LEDGER, (json.dumps(list(rows), indent=1) + "\n").encode())


def read_ledger(directory: Path) -> list[dict[str, float]]:
    """What `write_ledger` wrote; empty without. Raises RunError when it is damaged."""
    path = directory / LEDGER
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [{name: row[name] for name in ("seed", "episode", *STAGES, "random")} for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: {error!r}; `./mbrl plot RUN --ledger` makes it again") from None
