# SPDX-License-Identifier: Apache-2.0
"""`./mbrl train ALGORITHM`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when the trainer has finished."""
    parser = argparse.ArgumentParser(
        prog="./mbrl train",
        description="Ask the trainer of a robot that is running to train: the action train. Ctrl-C stops it; the best"
        " so far is kept. ROS_DOMAIN_ID has to be that of the robot.",
    )
    parser.add_argument("algorithm", metavar="ALGORITHM", help="one of config/trainer, without .yaml")
    parser.add_argument("--data", default="", metavar="BAG", help="bag or dataset to learn from (default: none)")
    parser.add_argument("--budget", type=int, default=0, help="iterations at most (default: the algorithm's)")
    parser.add_argument("--seconds", type=float, default=0.0, help="seconds at most (default: no limit)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the algorithm, for instance"
        " batch_size=64 or policy.hidden_size=32; as often as you like",
    )  # fmt: skip
    parser.add_argument("--namespace", default="", help="namespace of the robot (default: none)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for the trainer (default: 30)")
    options = parser.parse_args(arguments)
    try:
        configuration = _nested(options.set)
    except ValueError as error:
        parser.error(str(error))

    from .client import talk

    with talk("train", options.namespace, options.timeout) as conversation:
        import rclpy
        from rclpy.action import ActionClient

        from mbrl_msgs.action import Train

        client = ActionClient(conversation.node, Train, "train")
        goal = Train.Goal(
            algorithm=options.algorithm,
            data=options.data,
            budget=options.budget,
            time_budget=options.seconds,
            configuration=json.dumps(configuration) if configuration else "",
        )
        try:
            conversation.wait(client.server_is_ready, "the trainer's action train")
            sent = client.send_goal_async(goal, feedback_callback=lambda message: _tell(message.feedback))
            conversation.wait(sent.done, "an answer of the trainer")
        except TimeoutError as error:
            print(f"mbrl train: {error}", file=sys.stderr)
            return 1
        handle = sent.result()
        if handle is None or not handle.accepted:
            print("mbrl train: the trainer does not accept it", file=sys.stderr)
            return 1
        finished = handle.get_result_async()
        try:
            while not finished.done():
                rclpy.spin_once(conversation.node, timeout_sec=0.1)
        except KeyboardInterrupt:
            handle.cancel_goal_async()
            conversation.wait(finished.done, "the trainer to stop", timeout=30.0)
        result = finished.result().result
    if not result.success:
        print(f"mbrl train: {result.message}", file=sys.stderr)
        return 1
    newer = "reward" if result.reward_version > result.policy_version else "policy"
    print(f"{newer} version {getattr(result, f'{newer}_version')}, mean return {result.mean_return:.2f}")
    return 0


def _tell(feedback: Any) -> None:
    told = {"return": feedback.mean_return, "KL": feedback.kl, "loss": feedback.loss}
    figures = "".join(f"  {name} {value:.4g}" for name, value in told.items() if not math.isnan(value))
    print(f"iteration {feedback.iteration:>4}{figures}  {feedback.elapsed:.1f} s", flush=True)


def _nested(settings: list[str]) -> dict[str, Any]:
    """`a.b=1` as {'a': {'b': 1}}. Raises ValueError that names the setting."""
    import yaml

    result: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not name or not equals:
            raise ValueError(f"--set: got {setting!r}, expected NAME=VALUE")
        *groups, last = name.split(".")
        place = result
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ValueError(f"--set: {setting!r}: {group} has a value already, expected a group")
        place[last] = yaml.safe_load(text)
    return result
