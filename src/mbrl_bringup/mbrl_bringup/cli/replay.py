# SPDX-License-Identifier: Apache-2.0
"""`./mbrl replay RUN`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from .places import find_run, no_such_run

if TYPE_CHECKING:
    from mbrl_bringup.replay_recording import Recording


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when the decision was recomputed, and exactly where that is promised."""
    options = _parser().parse_args(arguments)
    run = find_run(options.run)
    if run is None:
        print(f"mbrl replay: {no_such_run(options.run)}", file=sys.stderr)
        return 1
    # Sums over several threads come out otherwise; a planner has one.
    os.environ["OMP_NUM_THREADS"] = "1"

    from mbrl_bringup.replay_recording import ReplayError, read_recording
    from mbrl_bringup.replay_report import overview

    try:
        recording = read_recording(run, options.namespace)
        if options.all:
            return _check_all(options, recording)
        if options.step is None:
            print(overview(recording))
            return 0
        return _replay(options, recording)
    except ReplayError as error:
        print(f"mbrl replay: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"mbrl replay: {error.filename or options.plot}: {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./mbrl replay",
        description="Recompute a planner's recorded decision from the bag alone: exactly, of a lockstep run; or with"
        " another planner, model or task, and show the difference. Without --step: list the decisions that there are."
        " Nothing is written into the run.",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, its name under runs/, `latest`, or a bag")
    parser.add_argument("--episode", type=int, metavar="E", help="episode (default: the last one)")
    parser.add_argument("--step", type=int, metavar="K", help="the time step that was answered")
    parser.add_argument(
        "--all", action="store_true", help="recompute every decision, of all episodes or one, and count the exact ones"
    )
    parser.add_argument("--controller", metavar="NAME", help="whose plan (default: the planner that served)")
    parser.add_argument(
        "--planner", default="", metavar="X", help="another planner: a preset's name or file, or a kind"
    )
    parser.add_argument(
        "--model", default="", metavar="Y", help="another model: a learner's checkpoint, or a version in the bag"
    )
    parser.add_argument("--task", default="", metavar="FILE", help="another task: a preset's name or file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="values",
        metavar="NAME=VALUE",
        help="another value: planner.NAME, task.goal, task.parameters.NAME, task.weights.NAME, seed, ...",
    )
    parser.add_argument("--namespace", help="which robot, where the bag has several")
    parser.add_argument("--rows", type=int, default=10, metavar="N", help="steps to list (default: 10; 0: all)")
    parser.add_argument("--plot", default="", metavar="FILE", help="draw both plans, and what the robot did")
    return parser


def _check_all(options: argparse.Namespace, recording: Recording) -> int:
    from mbrl_bringup.replay_check import check_episodes, text

    unexplained = 0
    for check in check_episodes(recording, options.episode):
        print(text(check), flush=True)
        unexplained += check.exact < check.plans and not check.doubts
    return 1 if unexplained else 0


def _replay(options: argparse.Namespace, recording: Recording) -> int:
    from mbrl_bringup import replay_report as report
    from mbrl_bringup.replay import recompute, recompute_changed
    from mbrl_bringup.replay_changes import Changes, changed
    from mbrl_bringup.replay_compare import evaluation_seed, published
    from mbrl_bringup.replay_decision import find_decision

    decision = find_decision(recording, options.episode, options.step, options.controller)
    changes = Changes(options.planner, options.model, options.task, options.values)
    # First: what cannot be changed so is said before anything is computed.
    circumstances, words = changed(decision, changes) if changes.any else (None, [])
    print(report.heading(decision), flush=True)
    recomputed = recompute(decision)
    print(f"\n{report.verdict(decision, recomputed)}", flush=True)
    plan, shown, label = published(recomputed.reply, decision.settings), recomputed, "recomputed"
    if circumstances is not None:
        alternative = report.Alternative(circumstances, words, recompute_changed(decision, circumstances, recomputed))
        print(f"\n{report.comparison(decision, recomputed, alternative, options.rows)}")
        plan, shown, label = alternative.plan, alternative.recomputed, "changed"
    elif not report.is_exact(decision, recomputed):
        print("\n" + "\n".join(report.actions_table(decision, plan, shown.reply.start_step, options.rows, label)))
    if options.plot:
        plan = report.with_prediction(plan, shown, evaluation_seed(decision))
        print(f"\n{report.draw(decision, plan, shown.reply.start_step, label, options.plot)}")
    return 0 if decision.doubts or report.is_exact(decision, recomputed) else 1
