# SPDX-License-Identifier: Apache-2.0
"""Swing-up of a pendulum with a third of the torque that would lift it, in lockstep.

A seed counts when, in one of its three learned trials, the pendulum is upright (within 0.2 rad and 0.5 rad/s) for the
last 2 s of the 10 s episode.
"""

import sys

from _learning import arguments, rows, run_seeds
from common import bar, report

LAST_SECONDS = 2.0


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments(__doc__, seeds=10)
    runs = run_seeds(options, "pendulum", trials=4)
    needed = round(LAST_SECONDS / runs[0].information["period"])
    upright = [any(row["success_steps_at_end"] >= needed for row in run.metrics if row["learned"]) for run in runs]
    return report(
        "pendulum",
        [bar("percent_of_seeds_upright_by_the_third", 100.0 * sum(upright) / len(runs), at_least=90.0)],
        rows(runs),
    )


if __name__ == "__main__":
    sys.exit(main())
