# SPDX-License-Identifier: Apache-2.0
"""`./mbrl record start|stop|label`."""

from __future__ import annotations

import argparse
import sys

OUTCOMES = ("unlabelled", "success", "failure")


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when the recorder has done what was asked."""
    parser = argparse.ArgumentParser(
        prog="./mbrl record",
        description="Tell the recorder of a robot that is running to start a bag, to finish it, or what to think of an"
        " episode: the service record. ROS_DOMAIN_ID has to be that of the robot.",
    )
    parser.add_argument("command", choices=("start", "stop", "label"), help="what to do")
    parser.add_argument("--outcome", choices=OUTCOMES, default="unlabelled", help="label: how the episode went")
    parser.add_argument("--discard", action="store_true", help="label: datasets leave the episode out")
    parser.add_argument("--episode", type=int, default=0, help="label: number of the episode (default: the newest)")
    parser.add_argument("--task", default="", help="label: what was to be done")
    parser.add_argument("--note", default="", help="label: anything else")
    parser.add_argument("--namespace", default="", help="namespace of the robot (default: none)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait at most (default: 10)")
    options = parser.parse_args(arguments)
    said = options.outcome != OUTCOMES[0] or options.discard or options.episode or options.task or options.note
    if options.command != "label" and said:
        parser.error(f"{options.command}: --outcome, --discard, --episode, --task and --note belong to label")
    if options.episode < 0:
        parser.error(f"--episode: got {options.episode}, expected 0 or more")

    from .client import talk

    try:
        with talk("record", options.namespace, options.timeout) as conversation:
            from mbrl_msgs.msg import EpisodeLabel
            from mbrl_msgs.srv import Record

            label = EpisodeLabel(
                episode=options.episode,
                outcome=OUTCOMES.index(options.outcome),
                discarded=options.discard,
                task=options.task,
                note=options.note,
            )
            command = getattr(Record.Request, options.command.upper())
            client = conversation.node.create_client(Record, "record")
            answer = conversation.call(client, Record.Request(command=command, label=label))
    except TimeoutError as error:
        print(f"mbrl record: {error}", file=sys.stderr)
        return 1
    if answer is None or not answer.success:
        print(f"mbrl record: {'no answer' if answer is None else answer.message}", file=sys.stderr)
        return 1
    if options.command == "label":
        print(f"episode {answer.episode}: {'discarded' if options.discard else options.outcome}")
    elif options.command == "start":
        print(f"recording into {answer.bag}")
    else:
        print(f"finished {answer.bag}" if answer.bag else "nothing was being recorded")
    return 0
