# SPDX-License-Identifier: Apache-2.0
"""How many control steps a second known dynamics roll out, on one and on two threads, beside plain mujoco.rollout.

The plain call gets the MJCF as it is and its arrays ready made, on one thread: what is above its rate comes from
leaving out what only looks, what is below it would be overhead.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mujoco
import mujoco.rollout
import numpy as np
import torch
from common import bar, report

from mbrl_core.mjcf import load_mjcf
from mbrl_core.robot_file import load_robot
from mbrl_dynamics.registry import make_model

ROBOTS = Path(__file__).resolve().parents[1] / "config" / "robots"
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=200, help="action sequences at a time (default: 200)")
    parser.add_argument("--horizon", type=int, default=25, help="control steps of each (default: 25)")
    parser.add_argument("--repeats", type=int, default=15, help="measurements, of which the best counts (default: 15)")
    parser.add_argument("--full", action="store_true", help="100 measurements")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for path in sorted(ROBOTS.glob("*.yaml")):
        row = measure(path, options.sequences, options.horizon, 100 if options.full else options.repeats)
        print("  ".join(f"{name} {value:.0f}" if isinstance(value, float) else value for name, value in row.items()))
        rows.append(row)
    bars = []
    for row in rows:
        bars.append(bar(f"{row['robot']}_one_thread_over_plain", row["one_thread"] / row["plain"], at_least=1.0))
        bars.append(bar(f"{row['robot']}_two_threads_over_one", row["two_threads"] / row["one_thread"], at_least=1.6))
    return report("known_dynamics", bars, rows)


def measure(path: Path, sequences: int, horizon: int, repeats: int) -> dict:
    """Control steps a second of one robot: `plain`, `one_thread` and `two_threads`."""
    robot = load_robot(path)
    state = torch.zeros(robot.spec.state.size)
    random = torch.Generator().manual_seed(0)
    actions = torch.rand(sequences, horizon, robot.spec.action.size, generator=random) * 2.0 - 1.0
    models = {
        name: make_model("mujoco", {"robot_file": str(path), "threads": threads}, robot.spec, 0)
        for name, threads in (("one_thread", 1), ("two_threads", 2))
    }
    calls: dict[str, Callable[[], object]] = {"plain": plain(path, actions)}
    for name, model in models.items():
        calls[name] = lambda model=model: model.trajectories(state, actions, 1, "mean", random, None, "float32")
    seconds = dict.fromkeys(calls, float("inf"))
    # In turn, so that all see the same load.
    for _ in range(repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    rates = {name: sequences * horizon / value for name, value in seconds.items()}
    return {"robot": robot.spec.name, "mujoco_steps": float(robot.simulation.steps_per_control), **rates}


def plain(path: Path, actions: torch.Tensor) -> Callable[[], object]:
    """The plain call on one thread."""
    mjcf = load_mjcf(load_robot(path))
    data = mujoco.MjData(mjcf.model)
    control = np.repeat(actions.double().numpy(), mjcf.steps_per_control, axis=1)
    start = np.zeros((len(actions), mujoco.mj_stateSize(mjcf.model, FULL)))
    output = np.empty((*control.shape[:2], start.shape[1]))
    return lambda: mujoco.rollout.rollout(mjcf.model, data, start, control, state=output)


if __name__ == "__main__":
    sys.exit(main())
