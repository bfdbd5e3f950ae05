# SPDX-License-Identifier: Apache-2.0
"""The same seed twice, in lockstep, with all processes: states and actions byte for byte."""

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from _learning import arguments
from common import bar, report

from mbrl_bringup.batch import RunRequest, execute_all
from mbrl_bringup.run_files import Run

TRIALS = 3
COMPARED = ("episode", "step", "state", "action", "reward")


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments(__doc__, seeds=2)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with tempfile.TemporaryDirectory(prefix="mbrl_determinism_") as temporary:
        folder = Path(options.keep or temporary)
        requests = [
            RunRequest(
                folder / f"seed_{seed}_{copy}",
                {"robot": "cartpole", "mode": "lockstep", "trials": str(TRIALS), "seed": str(seed), "record": "false"},
            )
            for seed in seeds
            for copy in ("first", "again")
        ]
        runs = execute_all(requests, options.workers)
    table: list[dict[str, Any]] = [
        {"seed": run.information["seed"], "steps": len(run.steps["state"]), "sha256": digest(run)} for run in runs
    ]
    different = sum(table[index]["sha256"] != table[index + 1]["sha256"] for index in range(0, len(table), 2))
    distinct = len({row["sha256"] for row in table})
    return report(
        "determinism",
        [
            bar("seeds_whose_runs_differ", different, at_most=0),
            # Runs of different seeds that were equal would mean that the comparison compares nothing.
            bar("distinct_runs", distinct, at_least=options.seeds),
        ],
        table,
    )


def digest(run: Run) -> str:
    """sha256 over the bytes of everything that happened."""
    content = b"".join(run.steps[name].tobytes() for name in COMPARED)
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
