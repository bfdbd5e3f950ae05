# SPDX-License-Identifier: Apache-2.0
"""Asks robot_node for an episode until it answers, whatever dies in between."""

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from mbrl_msgs.action import StartEpisode
from mbrl_ros.qos import ANSWER_TIMEOUT
from mbrl_ros.steady import now_ns


class EpisodeStart:
    """One request at a time: `begin` sends it, `poll` sends it again where nobody answers. Nothing here waits.

    `failed` is called with the reason when robot_node refuses or gives up a start, `waiting` as long as it says that it
    waits for something. That it has begun is what its time
    steps say, not its answer. A refusal of a request that was sent twice only says that the first one had come.
    """

    def __init__(self, node: Node, failed: Callable[[str], None], waiting: Callable[[], None]) -> None:
        self._client = ActionClient(node, StartEpisode, "start_episode")
        self._failed = failed
        self._waiting = waiting
        self._goal: StartEpisode.Goal | None = None
        self._sent_ns = 0
        self._attempts = 0
        self._answer: Any = None
        self._result: Any = None

    def is_ready(self) -> bool:
        """Whether somebody serves start_episode."""
        return bool(self._client.server_is_ready())

    def begin(self, goal: StartEpisode.Goal) -> None:
        """Sends a request; whatever became of the one before does not count any more."""
        self._goal, self._attempts = goal, 0
        self._send()

    def end(self) -> None:
        """The episode has begun, or is given up."""
        self._goal = self._answer = self._result = None

    def poll(self) -> None:
        """Sends the request again where it has not been answered for long."""
        if self._goal is None or self._result is not None:
            return
        if (now_ns() - self._sent_ns) * 1e-9 > ANSWER_TIMEOUT and self.is_ready():
            self._send()

    def _send(self) -> None:
        assert self._goal is not None
        self._sent_ns = now_ns()
        self._attempts += 1
        self._result = None
        self._answer = self._client.send_goal_async(self._goal, feedback_callback=self._on_feedback)
        self._answer.add_done_callback(self._on_answer)

    def _on_feedback(self, message: StartEpisode.Impl.FeedbackMessage) -> None:
        if self._goal is not None:
            self._waiting()

    def _on_answer(self, future: Future) -> None:
        if future is not self._answer:
            return
        handle = future.result()
        if handle is None or not handle.accepted:
            self._failed("robot did not accept start_episode")
            return
        self._result = handle.get_result_async()
        self._result.add_done_callback(self._on_result)

    def _on_result(self, future: Future) -> None:
        if future is not self._result:
            return
        result = future.result().result
        if result.success:
            return
        if self._attempts > 1:
            self._result = None  # to be asked again
        else:
            self._failed(result.message)
