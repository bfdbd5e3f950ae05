# SPDX-License-Identifier: Apache-2.0
"""A planar arm reaches random targets in lockstep: at most five learned trials, then twenty unseen targets.

A target counts when the tip is within 1 cm of it for the last half of a 50-step episode at 50 Hz. Nothing new is
learned while targets are judged.
"""

import sys

from _learning import arguments, rows, run_seeds
from common import bar, report

LEARNED_TRIALS = 5
TARGETS = 20


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments(__doc__, seeds=5)
    frozen = {
        "experiment": {"evaluation_trials": TARGETS},
        "learner": {"learner.last_episode": 1 + LEARNED_TRIALS},
    }
    runs = run_seeds(options, "reacher", trials=1 + LEARNED_TRIALS, parameters=frozen)
    judged = [row for run in runs for row in run.metrics if row["evaluation"]]
    reached = [row["success_steps_at_end"] >= row["steps"] / 2 for row in judged]
    return report(
        "reacher",
        [bar("percent_of_unseen_targets_reached", 100.0 * sum(reached) / len(reached), at_least=90.0)],
        rows(runs, lambda run, row: {"evaluation": row["evaluation"], "goal": row["goal"]}),
    )


if __name__ == "__main__":
    sys.exit(main())
