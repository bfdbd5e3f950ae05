# SPDX-License-Identifier: Apache-2.0
"""Swing-up of the PETS cart-pole in lockstep: one random and three learned trials of 200 steps, over seeds.

Stands beside Chua et al. 2018 (arXiv:1805.12114), figure 3, cart-pole: the same robot and reward.
"""

import statistics
import sys

from _learning import arguments, lower_bound_of_interquartile_mean, rows, run_seeds
from common import bar, report


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments(__doc__, seeds=20)
    runs = run_seeds(options, "cartpole", trials=4)
    first, second, third = ([run.returns(learned=True)[index] for run in runs] for index in range(3))
    good = sum(max(run.returns(learned=True)) >= 150.0 for run in runs)
    return report(
        "cartpole",
        [
            bar("median_return_first_learned_trial", statistics.median(first), at_least=130.0),
            bar("iqm_lower_bound_second_learned_trial", lower_bound_of_interquartile_mean(second), at_least=168.0),
            bar("iqm_lower_bound_third_learned_trial", lower_bound_of_interquartile_mean(third), at_least=175.0),
            bar("percent_of_seeds_at_150_by_the_third", 100.0 * good / len(runs), at_least=95.0),
        ],
        rows(runs),
    )


if __name__ == "__main__":
    sys.exit(main())
