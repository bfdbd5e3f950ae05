# SPDX-License-Identifier: Apache-2.0
"""What a robot is sent while its nodes are killed, frozen and fed rubbish: the real graph, in real time.

mbrl.launch.yaml with `respawn:=true` and `faults:=true`, the cart-pole at 25 and 100 Hz, a planner on a model that a
learner trains meanwhile and a policy beside it, both in the chain. In turn, 20 times each:

    controllers   planner, policy and explore are killed (SIGKILL) and frozen while they serve; two of them at once
    aside         learner, recorder and watchdog are killed and frozen meanwhile
    backend       mujoco and faulty_backend are killed and frozen
    experiment    is killed and frozen
    robot         robot_node is frozen; killed, and the watchdog a moment later as well
    line          30 % loss, 200 ms delay, bursts of NaN, each on joint states and on commands

A process of its own observes the topics and judges by the times at which the publishers' middleware sent each message.
One on every processor, with precedence over all others, tells when the machine itself was held up for 4 ms or more, as
virtual ones are: that time is taken off ticks, fall-backs and watchdog, and told beside them (`..._held_up`).
At 100 Hz the planner has a smaller population and a shorter horizon, to fit into 10 ms.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _faults_campaign import Campaign, Hand
from _faults_graph import Graph
from _faults_judge import Judge
from _faults_view import Stuck, View
from common import bar, report

from mbrl_bringup.domains import reserved_domain
from mbrl_policy.bags import recover

RATES = (25, 100)
PLANNER_FIGURES = ("solve_time_p50_s", "solve_time_p99_s", "delay_steps", "missed_deadlines", "plans")
PARTS = ("explore", "controllers", "aside", "backend", "experiment", "robot", "line")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="of every kill and freeze (default: 20)")
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES), choices=RATES, help="Hz (default: both)")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS, help="parts (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which things happen (default: 0)")
    parser.add_argument("--keep", default="", help="folder to keep the runs in (default: thrown away)")
    options = parser.parse_args()
    if options.repeats < 1 or options.seed < 0:
        parser.error("expected --repeats at least 1 and --seed at least 0")
    return options


def run(rate: int, folder: Path, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of one rate, and what all its commands come to."""
    view, stolen = View(1.0 / rate), stolen_ms()
    with reserved_domain() as domain, Graph(folder / f"{rate}hz", rate, domain, options.seed, view.take) as graph:
        hand = Hand(domain)
        campaign = Campaign(graph, view, hand, options.repeats, options.seed)
        begun = time.monotonic()
        stuck = 0
        try:
            for name, part in [("begin", campaign.begin), *parts(campaign, options.only)]:
                try:
                    part()
                except Stuck as problem:
                    stuck += 1
                    print(
                        f"{rate} Hz, {name}: {problem}; what the nodes said last:",
                        *view.said_last(),
                        sep="\n    ",
                        flush=True,
                    )
                print(f"{rate} Hz: {name} done after {time.monotonic() - begun:.0f} s", flush=True)
        finally:
            hand.close()
    judge = Judge(graph.robot, view, campaign.events)
    rows = [{"rate": rate, **row} for row in judge.rows()]
    figures = judge.every_command() | {"stuck": stuck, "observer_precedence": view.precedence}
    figures["missed_ticks_by_own_count"] = judge.missed_by_own_count()
    said = view.figures_of("planner")
    figures["planner"] = {name: said[name] for name in PLANNER_FIGURES if name in said}
    lengths = [1e-6 * (end - begin) for begin, end in view.held_up]
    figures |= {"hold_ups": len(lengths), "longest_hold_up_ms": max(lengths, default=0.0), "held_up_ms": sum(lengths)}
    figures["stolen_ms"] = stolen_ms() - stolen
    return rows, figures | bags(graph.directory)


def parts(campaign: Campaign, only: Sequence[str]) -> list[tuple[str, Callable[[], None]]]:
    """What is to be done, in order; what need not wait for each other goes on at the same time."""

    def aside() -> None:
        campaign.together(lambda: campaign.aside("learner"), lambda: others())

    def others() -> None:
        campaign.aside("recorder")
        campaign.aside("watchdog")

    found: list[tuple[str, Callable[[], None]]] = []
    if "explore" in only:
        found.append(("explore", campaign.explore))
    both = [act for name, act in (("controllers", campaign.controllers), ("aside", aside)) if name in only]
    if both:
        found.append(("controllers and aside", lambda: campaign.together(*both)))
    if "backend" in only:
        found += [(node, lambda node=node: campaign.backend(node)) for node in ("mujoco", "faulty_backend")]
    found += [(name, getattr(campaign, name)) for name in ("experiment", "robot", "line") if name in only]
    return found


def stolen_ms() -> int:
    """Time of all processors that the host of a virtual machine has given to others, since its start; by 10 ms."""
    return 1000 * int(Path("/proc/stat").read_text().split()[8]) // os.sysconf("SC_CLK_TCK")


def bags(directory: Path) -> dict[str, Any]:
    """How many bags there are, and whether each can be finished and read."""
    found = sorted(path for path in directory.glob("bag*") if path.is_dir())
    unreadable = 0
    for bag in found:
        if (bag / "metadata.yaml").exists():
            continue
        try:
            recover(bag)
        except (OSError, ValueError) as error:
            print(f"{bag}: {error}")
            unreadable += 1
    return {"bags": len(found), "bags_unreadable": unreadable}


def bars_of(rate: int, rows: Sequence[dict[str, Any]], figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The criteria at one rate."""
    name = f"{rate}_hz"
    bars = [
        bar(f"{name}_{what}", figures[what], at_most=0)
        for what in ("not_finite", "out_of_limits", "beyond_slew", "ticks_without_command", "bags_unreadable", "stuck")
    ]
    for column, label, bound in (
        ("fallback_periods", "worst_fallback_periods", 2.0),
        ("back_seconds", "worst_seconds_to_serve_after_first_plan", 2.0),
        ("watchdog_periods", "worst_watchdog_periods", 3.0),
        ("backend_steps_after_time_out", "worst_backend_steps_after_time_out", 2.0),
    ):
        values = [row[column] for row in rows if column in row]
        if values:
            bars.append(bar(f"{name}_{label}", max(values), at_most=bound))
    never = sum(1 for row in rows for value in row.values() if isinstance(value, float) and math.isinf(value))
    return [*bars, bar(f"{name}_never_back", never, at_most=0)]


def held_up(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the events that the machine was held up at: how many, and the longest times with the hold-up."""
    told: dict[str, Any] = {}
    for column in ("fallback_periods", "watchdog_periods"):
        whole = [row[column] + row[f"{column}_held_up"] for row in rows if f"{column}_held_up" in row]
        told[f"{column}_held_up"] = len(whole)
        if whole:
            told[f"worst_{column}_with_hold_up"] = max(whole)
    return told


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    options = arguments()
    begun = time.monotonic()
    rows: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mbrl_faults_") as temporary:
        for rate in options.rates:
            new, figures = run(rate, Path(options.keep or temporary).absolute(), options)
            rows += new
            bars += bars_of(rate, new, figures)
            told[f"{rate}_hz"] = figures | held_up(new) | {"events": len(new)}
    for item in bars:
        print(f"{item['name']}: {item['value']:.4g}, expected {item['bound']}")
    return report("faults", bars, rows, told | {"minutes": (time.monotonic() - begun) / 60.0})


if __name__ == "__main__":
    sys.exit(main())
