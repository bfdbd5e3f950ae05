# SPDX-License-Identifier: Apache-2.0
"""One planning step of PETS on its cart-pole, side by side with mbrl-lib: time, and what bfloat16 costs in return.

Chua et al. 2018 (arXiv:1805.12114): 5 members of 4 hidden layers of 200, CEM of 5 iterations of 500 candidates, 20
particles, 30 steps; mbrl-lib's preset pets_cartpole_paper_version. Repetitions of both sides alternate, each on all
cores; the machine's peak of bare matrix products, through torch, is measured in between. There is no published figure
of these times to stand beside.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from _baselines import BaselineWorker
from _offline import CONFIG, preset
from _precision import PETS_NETWORK, PETS_PLANNER, learn, paper_sized, percent_lost, preset_sized
from common import bar, report

from mbrl_core.robot_file import load_robot
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import make_task
from mbrl_dynamics.kernels import kernels
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_planner.objective import ModelObjective
from mbrl_planner.registry import make_planner

THEIR_NAMES = {"ts1": "random_model", "tsinf": "fixed_model"}
INPUTS, STATES = 6, 4  # of the cart-pole's network: position, sine and cosine, velocities, action
PEAK_SIZE = 2048
REST = 0.2  # seconds after a measurement, in which its threads stop spinning


def products(iterations: int) -> float:
    """Floating-point operations of the matrix products of a step."""
    hidden, layers = PETS_NETWORK["hidden_size"], PETS_NETWORK["hidden_layers"]
    network = INPUTS * hidden + (layers - 1) * hidden**2 + hidden * 2 * STATES
    return 2.0 * network * iterations * PETS_PLANNER["population_size"] * PETS_PLANNER["particles"] * 30


def peak(dtype: torch.dtype) -> float:
    """FLOP/s of a bare product of two large matrices."""
    matrix = torch.randn(PEAK_SIZE, PEAK_SIZE).to(dtype)
    matrix @ matrix
    begin = time.perf_counter()
    matrix @ matrix
    return 2.0 * PEAK_SIZE**3 / (time.perf_counter() - begin)


class ThroughTorch:
    """A model without its compiled rollout."""

    def __init__(self, model: DynamicsModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def trajectories(self, *arguments: Any) -> None:
        """Nothing faster than stepping."""


def our_step(
    spec: RobotSpec, model: Any, mapping: dict[str, Any], precision: str, state: np.ndarray
) -> Callable[[], float]:
    """Measures one whole plan: noise, rollouts, rewards, refitting."""
    objective = ModelObjective(
        model, make_task("cartpole_tip"), mapping["particles"], mapping["propagation"], precision=precision
    )
    planner = make_planner(mapping, spec, objective, 0)

    def measure() -> float:
        planner.reset()
        begin = time.perf_counter()
        planner.plan(state)
        return time.perf_counter() - begin

    return measure


def timed(repetitions: int, threads: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of one measurement each."""
    spec = load_robot(CONFIG / "robots" / "cartpole.yaml").spec
    model = make_model("ensemble", PETS_NETWORK, spec, seed)
    small = make_model("ensemble", {}, spec, seed)
    start = np.zeros(4)
    measures: dict[tuple[str, str, str], Callable[[], float]] = {}
    icem = preset("planner", "icem", "planner")
    with BaselineWorker("_rollout_worker.py", {"OMP_NUM_THREADS": str(threads)}) as worker:
        for propagation, theirs in THEIR_NAMES.items():
            question = {
                **PETS_NETWORK,
                **{name: PETS_PLANNER[name] for name in ("horizon", "iterations", "particles")},
                "candidates": PETS_PLANNER["population_size"],
                "propagation": theirs,
                "threads": threads,
                "seed": seed,
            }
            measures[propagation, "mbrl-lib", "float32"] = lambda question=question: worker.ask(question)["seconds"]
            mapping = {**PETS_PLANNER, "propagation": propagation}
            for precision in ("float32", "bfloat16"):
                measures[propagation, "mbrl", precision] = our_step(spec, model, mapping, precision, start)
        for precision in ("float32", "bfloat16"):
            measures["preset", "mbrl", precision] = our_step(spec, small, icem, precision, start)
        measures["preset", "torch", "float32"] = our_step(spec, ThroughTorch(small), icem, "float32", start)
        for repetition in range(-1, repetitions):  # the first round warms up
            for (problem, side, precision), measure in measures.items():
                # The preset's planner is a node of one thread.
                torch.set_num_threads(1 if problem == "preset" else threads)
                seconds = min(measure() for _ in range(10)) if problem == "preset" else measure()
                time.sleep(REST)
                if repetition >= 0:
                    yield {
                        "repetition": repetition,
                        "problem": problem,
                        "side": side,
                        "precision": precision,
                        "seconds": seconds,
                    }
            torch.set_num_threads(threads)
            for dtype in (torch.float32, torch.bfloat16):
                flops = peak(dtype)
                if repetition >= 0:
                    precision = str(dtype).removeprefix("torch.")
                    yield {"repetition": repetition, "problem": "peak", "precision": precision, "flops": flops}
                time.sleep(REST)


def median(rows: list[dict[str, Any]], value: str = "seconds", **wanted: str) -> float:
    """Median of a column over the rows that have the wanted values."""
    return statistics.median(row[value] for row in rows if all(row.get(name) == w for name, w in wanted.items()))


def speed_bars(rows: list[dict[str, Any]], has_bfloat16: bool) -> list[dict[str, Any]]:
    """How many times faster, and the share of the peak; what is not a bar is printed."""
    bars = []
    for propagation in THEIR_NAMES:
        theirs = median(rows, problem=propagation, side="mbrl-lib")
        print(f"{propagation}: mbrl-lib {theirs:.3f} s")
        for precision, least in (("float32", 2.5), ("bfloat16", 5.0)):
            ours = median(rows, problem=propagation, side="mbrl", precision=precision)
            rate = products(PETS_PLANNER["iterations"]) / ours
            top = median(rows, "flops", problem="peak", precision=precision)
            print(
                f"{propagation}: {precision} {ours:.3f} s, {theirs / ours:.2f} times faster; products at"
                f" {rate / 1e9:.0f} GFLOP/s, {100.0 * rate / top:.0f} % of the {top / 1e9:.0f} of bare ones"
            )
            if precision == "float32" or has_bfloat16:
                bars.append(bar(f"{precision}_times_faster_{propagation}", theirs / ours, at_least=least))
    reference = median(rows, problem="preset", side="torch")
    for precision in ("float32", "bfloat16"):
        ours = median(rows, problem="preset", side="mbrl", precision=precision)
        print(f"default preset, one thread: {precision} {1e3 * ours:.2f} ms, through torch {1e3 * reference:.2f} ms")
        bars.append(bar(f"preset_{precision}_over_torch_seconds", ours / reference, at_most=1.0))
    return bars


def loss_bars(models: int, states: int, first_seed: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What bfloat16 loses of the return, over models and start states; appends its rows."""
    gathered: dict[str, list[dict[str, Any]]] = {"ts1": [], "tsinf": [], "preset": []}
    for seed in range(first_seed, first_seed + models):
        learned = learn(seed, trials=2)
        for propagation in THEIR_NAMES:
            gathered[propagation] += paper_sized(learned, propagation, states, seed)
        gathered["preset"] += preset_sized(learned, seed)
        for problem, found in gathered.items():
            new = [row for row in found if "seed" not in row]
            for row in new:
                row["seed"] = seed
            rows += [{"problem": f"loss_{problem}", **row} for row in new]
    bars = []
    for problem, found in gathered.items():
        chosen, _, chosen_most = percent_lost(found, "chosen")
        lost, least, most = percent_lost(found, "return")
        print(
            f"{problem}, {len(found)} plans: the choice in bfloat16 loses {chosen:+.4f} % of return, at most"
            f" {chosen_most:+.4f} %; a whole plan {lost:+.3f} %, by chance {least:+.3f} to {most:+.3f} %"
        )
        bars.append(bar(f"percent_lost_by_choice_in_bfloat16_{problem}", chosen_most, at_most=0.1))
    return bars


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7, help="timed steps of each side (default: 7)")
    parser.add_argument("--models", type=int, default=3, help="models whose plans are judged (default: 3)")
    parser.add_argument("--states", type=int, default=15, help="start states of each at paper size (default: 15)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first model (default: 0)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    options = parser.parse_args()
    if min(options.repetitions, options.models, options.states, options.threads) < 1:
        parser.error("expected numbers of at least 1")
    library = kernels()
    best = {name: library.best(name).name if library else "torch" for name in ("float32", "bfloat16")}
    print(f"variants: float32 {best['float32']}, bfloat16 {best['bfloat16']}; {options.threads} threads", flush=True)
    has_bfloat16 = library is not None and library.best("bfloat16").bfloat16
    rows = list(timed(options.repetitions, options.threads, options.first_seed))
    bars = speed_bars(rows, has_bfloat16)
    if has_bfloat16:
        torch.set_num_threads(options.threads)
        bars += loss_bars(options.models, options.states, options.first_seed, rows)
    return report("rollout", bars, rows)


if __name__ == "__main__":
    sys.exit(main())
