# SPDX-License-Identifier: Apache-2.0
"""Learning the cart-pole of PETS, beside mbrl-lib's own preset for it: returns of learned trials, and seconds a plan.

Chua et al. 2018 (arXiv:1805.12114). mbrl-lib: its preset pets_cartpole_paper_version as in its package, CEM of 5
iterations of 500 candidates, 20 particles, 30 steps, over the best 5 of 7 networks of 4 layers of 200, fitted before
each trial by 25 epochs that go on from the last weights. These are few steps of a small size for so little data, so
mbrl-lib_long_fits is the same planner over the same networks, fitted by 1500 epochs with the paper's step size 1e-3:
before the first trial as many gradient steps as this project's preset takes, later several times as many.

Both learn on the same simulation, from the same start states and for the same rewards as this project's runs, which are
of its nodes in lockstep: with the presets as shipped (ours), and fitted between trials only, as mbrl-lib does
(ours_200). One random trial, then learned ones, of 200 steps each.

The bars: return of the last learned trial, interquartile mean over seeds, less that of a side of mbrl-lib: its
one-sided 95 % bootstrap bound is at least -9, which is 5 % of the 180 that a solved trial returns. They say how much is
learned from so few trials, not where mbrl-lib ends: its preset goes on for 50.

Without --full the rows of mbrl-lib are those of benchmarks/results/pets.csv. Those of its preset must be there for a
bar to hold; mbrl-lib_long_fits is judged when its rows are there. With --full, what they lack of the preset, or of each
--side, is run first: half an hour a trial on a core (10 s a plan), 8 hours of processor time a side, a fraction of
that with --device cuda. It can be stopped at any time, killed too, and goes on where it was, at most 5 steps back.

The rows of mbrl-lib in results/pets.csv are of one learned trial, so `--trials 1` is what can be judged by them. They
were made by `--full --device cuda` of this file's worker on a GPU of another machine (torch 2.11), five runs at a time
on it: their seconds a plan are no figure to set beside this project's.
"""

import argparse
import hashlib
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _baselines import BaselineWorker, baseline_python
from _learning import RESAMPLES, interquartile_mean, run_seeds
from _pets import Study, check_rewards, play_all
from _pets_rows import missing, put_row, read_rows
from common import RESULTS, bar, machine, report

KEEP = Path(__file__).resolve().parents[1] / ".mbrl" / "pets"
OURS: dict[str, dict[str, Any]] = {"ours": {}, "ours_200": {"learner": {"learner.schedule": "episode"}}}
PRESET = "mbrl-lib"
THEIRS: dict[str, tuple[str, ...]] = {
    PRESET: (),
    "mbrl-lib_long_fits": (
        "overrides.model_lr=1e-3",
        "overrides.num_epochs_train_model=1500",
        "overrides.patience=1500",
    ),
}
STEPS = 200
MARGIN = 9.0


class MbrlLib:
    """mbrl-lib in its worker."""

    def __init__(self, worker: BaselineWorker, seed: int, study: Study) -> None:
        self._worker = worker
        begun = self._ask("begin", seed=seed, overrides=list(study.overrides), device=study.device)
        self.machine = begun["gpu"] or machine()["cpu"]
        check_rewards(
            lambda actions, states: np.array(
                self._ask("rewards", actions=actions.tolist(), next_states=states.tolist())["rewards"]
            )
        )

    def _ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        return self._worker.ask({"do": name, **arguments})

    def explore(self) -> list[float]:
        """A random action."""
        return self._ask("explore")["action"]

    def act(self, state: list[float]) -> tuple[list[float], float]:
        """The planned action, and seconds that it took."""
        answer = self._ask("act", state=state)
        return answer["action"], answer["seconds"]

    def add(self, state: list[float], action: list[float], next_state: list[float], reward: float, last: bool) -> None:
        """Takes a transition."""
        self._ask("add", state=state, action=action, next_state=next_state, reward=reward, last=last)

    def fit(self) -> float:
        """Learns from all data; seconds that it took."""
        answer = self._ask("fit")
        losses = f"loss {answer['first_loss']:.3f} to {answer['last_loss']:.3f}"
        print(f"mbrl-lib: fitted in {answer['seconds']:.1f} s, {losses}", file=sys.stderr, flush=True)
        return answer["seconds"]

    def reset(self) -> None:
        """Forgets the last plan, before a trial."""
        self._ask("reset")

    def save(self, path: Path, progress: Mapping[str, Any]) -> None:
        """Writes everything to an npz file."""
        self._ask("save", path=str(path), progress=dict(progress))

    def restore(self, path: Path) -> None:
        """Goes on from such a file."""
        self._ask("restore", path=str(path))


def run_theirs(study: Study, seeds: Sequence[int], workers: int, results: Path) -> None:
    """Runs what is missing of mbrl-lib's rows; each goes to `results` as soon as its trial is done."""

    @contextmanager
    def learner(seed: int) -> Iterator[MbrlLib]:
        with BaselineWorker("_pets_worker.py", {"OMP_NUM_THREADS": "1"}) as worker:
            yield MbrlLib(worker, seed, study)

    def finished(row: dict[str, Any]) -> None:
        put_row(results, row)
        told = f"{row['return']:.1f}, {row['seconds_per_plan']:.2f} s a plan"
        print(f"{row['side']} seed {row['seed']} trial {row['trial']}: {told}", flush=True)

    baseline_python()  # made once, not by each worker
    play_all(study, seeds, workers, learner, finished)


def run_ours(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of this project's runs of the same seeds."""
    found = []
    cpu = machine()["cpu"]
    for side, parameters in OURS.items():
        print(f"{side}:", flush=True)
        for run in run_seeds(options, "cartpole", 1 + options.trials, parameters):
            for metrics in run.metrics:
                plans = metrics["plans"] if metrics["learned"] else 0
                seconds = metrics["solve_time_p50"] if plans else 0.0
                found.append(
                    {
                        "side": side,
                        "seed": int(run.information["seed"]),
                        "trial": metrics["trial"],
                        "return": metrics["return"],
                        "steps": metrics["steps"],
                        "seconds_per_plan": seconds,
                        "seconds_planning": seconds * plans,
                        "seconds_fitting": metrics["fit_seconds"],
                        "machine": cpu,
                    }
                )
    return found


def returns(rows: Sequence[Mapping[str, Any]], side: str, trial: int) -> list[float]:
    """Returns of a side's trial over seeds."""
    return [row["return"] for row in rows if row["side"] == side and row["trial"] == trial]


def lower_bound_of_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """One-sided 95 % bootstrap bound of the difference of interquartile means; NaN where a side has no values."""
    if not ours or not theirs:
        return float("nan")
    random = np.random.default_rng(0)
    means = []
    for values in (ours, theirs):
        data = np.asarray(values, dtype=float)
        means.append(interquartile_mean(data[random.integers(0, len(data), (RESAMPLES, len(data)))]))
    return float(np.percentile(means[0] - means[1], 5.0))


def figures(rows: Sequence[Mapping[str, Any]], trials: int) -> dict[str, Any]:
    """Medians and interquartile means of each side's learned trials, and seconds a plan."""
    result: dict[str, Any] = {}
    for side in (*THEIRS, *OURS):
        learned = [row for row in rows if row["side"] == side and row["trial"] > 0]
        if not learned:
            continue
        of_trials = [values for trial in range(1, trials + 1) if (values := returns(rows, side, trial))]
        result[side] = {
            "seeds": len({row["seed"] for row in learned}),
            "median_returns": [round(statistics.median(values), 2) for values in of_trials],
            "iqm_returns": [round(float(interquartile_mean(np.array(values))), 2) for values in of_trials],
            "seconds_per_plan": round(statistics.median(row["seconds_per_plan"] for row in learned), 5),
        }
        print(f"{side}: {result[side]}")
    return result


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="run what is missing of mbrl-lib's rows: hours")
    parser.add_argument(
        "--side", action="append", choices=THEIRS, help=f"with --full: what to run of mbrl-lib (default: {PRESET})"
    )
    parser.add_argument("--theirs-only", action="store_true", help="stop after that, without a result")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where mbrl-lib computes with --full (default: cpu)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--trials", type=int, default=3, help="learned trials (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument(
        "--keep", type=Path, default=KEEP, help="folder of what --full goes on from (default: %(default)s)"
    )
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change mbrl-lib's preset, overrides.cem_population_size=50 for instance; the rows then go to --keep"
        " and nothing of results/ changes",
    )
    options = parser.parse_args()
    if min(options.seeds, options.workers, options.trials) < 1 or options.first_seed < 0:
        parser.error("--seeds, --workers and --trials: expected at least 1, --first-seed at least 0")
    keep, results = options.keep, RESULTS / "pets.csv"
    if options.override:
        keep = keep / hashlib.sha256("\0".join(options.override).encode()).hexdigest()[:8]
        results = keep / "pets.csv"
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    left = {}
    for side, overrides in THEIRS.items():
        study = Study(side, options.trials, STEPS, keep / side, (*overrides, *options.override), options.device)
        left[side] = missing(read_rows(results), side, seeds, options.trials, STEPS)
        if options.full and left[side] and side in (options.side or (PRESET,)):
            run_theirs(study, left[side], options.workers, results)
            left[side] = missing(read_rows(results), side, seeds, options.trials, STEPS)
    if options.theirs_only:
        return 0
    for side, lacking in left.items():
        if lacking:
            print(f"{results} has not all rows of {side} for seeds {lacking}: --full runs them", flush=True)
    options.keep = ""  # this project's runs are not kept
    ours = run_ours(options)
    theirs = [row for row in read_rows(results) if row["side"] in THEIRS]
    judged = [row for row in theirs if row["seed"] in seeds] + ours
    bars = [
        bar(
            f"{side}_less_{other}",
            lower_bound_of_difference(
                returns(judged, side, options.trials), [] if left[other] else returns(judged, other, options.trials)
            ),
            at_least=-MARGIN,
        )
        for other in THEIRS
        if other == PRESET or not left[other]
        for side in ("ours_200", "ours")
    ]
    found = figures(judged, options.trials)
    return report("pets", bars, [] if options.override else [*theirs, *ours], found)


if __name__ == "__main__":
    sys.exit(main())
