# SPDX-License-Identifier: Apache-2.0
"""`./mbrl plot RUN`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .places import root


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
    run = _find(wanted)
    if run is None:
        known = ", ".join(sorted(folder.name for folder in _runs())) or "none"
        print(f"mbrl plot: there is no run {wanted!r}; under {root() / 'runs'} there are: {known}", file=sys.stderr)
        return 1
    from mbrl_bringup.plots import main as draw

    return int(draw(run, options.ledger) or 0)


def _find(wanted: str) -> Path | None:
    if wanted == "latest":
        return max(_runs(), key=lambda folder: folder.stat().st_mtime, default=None)
    for candidate in (Path(wanted), root() / "runs" / wanted):
        if candidate.is_dir():
            return candidate.resolve()
    return None


def _runs() -> list[Path]:
    return [folder for folder in (root() / "runs").glob("*") if folder.is_dir()]
