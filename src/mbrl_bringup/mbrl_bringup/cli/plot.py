# SPDX-License-Identifier: Apache-2.0
"""`./mbrl plot RUN`."""

from __future__ import annotations

import argparse
import sys

from .places import find_run, no_such_run


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="./mbrl plot", description="Draw the pictures of a run again.")
    parser.add_argument("run", metavar="RUN", help="a run's folder, or its name under runs/; `latest` is the newest")
    parser.add_argument(
        "--ledger",
        action="store_true",
        help="first work out where return was lost: planner, model or latency. Repeats the newest learned trials"
        " offline with an unhurried planner on the true dynamics, with this run's planner there, and on its model;"
        " minutes",
    )
    options = parser.parse_args(arguments)
    wanted = options.run
    run = find_run(wanted)
    if run is None or not run.is_dir():
        print(f"mbrl plot: {no_such_run(wanted)}", file=sys.stderr)
        return 1
    from mbrl_bringup.plots import main as draw

    return int(draw(run, options.ledger) or 0)
