# SPDX-License-Identifier: Apache-2.0
"""`./mbrl reward [FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Talk

LATEST = "latest"


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when the learned reward is the task in force."""
    parser = argparse.ArgumentParser(
        prog="./mbrl reward",
        description="Make a learned reward the task of an experiment that is running: the service set_task. Planners"
        " follow it from their next plan on. ROS_DOMAIN_ID has to be that of the robot.",
    )
    parser.add_argument(
        "file", nargs="?", default=LATEST, metavar="FILE", help="a trainer's checkpoints/reward.safetensors, or latest:"
        " the newest on the topic learned_reward (default: latest)",
    )  # fmt: skip
    parser.add_argument("--namespace", default="", help="namespace of the robot (default: none)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait at most (default: 10)")
    options = parser.parse_args(arguments)

    from mbrl_core.config import ConfigurationError

    from .client import talk

    try:
        content = b"" if options.file == LATEST else _content(options.file)
        with talk("reward", options.namespace, options.timeout) as conversation:
            return _use(conversation, content)
    except (TimeoutError, ConfigurationError, OSError) as error:
        print(f"mbrl reward: {error}", file=sys.stderr)
        return 1


def _content(file: str) -> bytes:
    """Raises OSError, ConfigurationError on a file that holds no learned reward."""
    from mbrl_core.learned_reward import load_reward

    return load_reward(Path(file).expanduser()).content


def _use(conversation: Talk, content: bytes) -> int:
    from mbrl_msgs.srv import SetTask

    message = _task(content) if content else _latest(conversation)
    client = conversation.node.create_client(SetTask, "set_task")
    answer = conversation.call(client, SetTask.Request(task=message))
    if answer is None or not answer.success:
        print(f"mbrl reward: {'no answer' if answer is None else answer.message}", file=sys.stderr)
        return 1
    print(f"the learned reward is the task in force, version {answer.version}")
    return 0


def _latest(conversation: Talk) -> Any:
    from mbrl_msgs.msg import Task
    from mbrl_ros import qos

    heard: list[Task] = []
    conversation.node.create_subscription(Task, "learned_reward", heard.append, qos.LATCHED)
    conversation.wait(lambda: heard, "a learned reward on the topic learned_reward: has a trainer made one?")
    return heard[-1]


def _task(content: bytes) -> Any:
    import array

    from mbrl_core.learned_reward import LearnedReward
    from mbrl_msgs.msg import Task

    # Interface and version are filled in by who owns the task.
    return Task(version_of_layout=Task.VERSION, kind=LearnedReward.kind, content=array.array("B", content))
