# SPDX-License-Identifier: Apache-2.0
"""Asks trainer_node to train, and asks again when it has died and come back."""

import math

from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from mbrl_msgs.action import Train


class TrainingClient:
    """One goal of the action `train` at a time. Nothing here waits: `poll` it.

    A trainer that is killed goes on from its checkpoint when the same is asked of it again.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._client = ActionClient(node, Train, "train")
        self._goal: Train.Goal | None = None
        self._sent: Future | None = None
        self._lost = False
        self._result: Train.Result | None = None
        self.feedback = Train.Feedback(mean_return=math.nan, kl=math.nan, loss=math.nan)

    def begin(self, goal: Train.Goal) -> None:
        """Sends a goal as soon as there is a trainer."""
        self._goal, self._sent, self._lost, self._result = goal, None, False, None
        self.poll()

    def poll(self) -> Train.Result | None:
        """The result, once there is one."""
        if self._goal is None:
            return None
        if self._result is not None:
            result, self._goal, self._result = self._result, None, None
            return result
        ready = self._client.server_is_ready()
        if self._sent is not None and not ready and not self._lost:
            self._lost = True
            self._node.get_logger().warning("trainer is gone; it is asked again when it is back")
        if ready and (self._sent is None or self._lost):
            self._lost = False
            self._send(self._goal)
        return None

    def cancel(self) -> None:
        """Forgets the goal; what the trainer has found is its own."""
        self._goal = None

    def _send(self, goal: Train.Goal) -> None:
        sent = self._client.send_goal_async(goal, feedback_callback=self._on_feedback)
        self._sent = sent
        sent.add_done_callback(lambda future: self._on_answer(future, goal))

    def _on_feedback(self, message: Train.Impl.FeedbackMessage) -> None:
        self.feedback = message.feedback

    def _on_answer(self, future: Future, goal: Train.Goal) -> None:
        handle = future.result()
        if future is not self._sent or goal is not self._goal:
            return
        if handle is None or not handle.accepted:
            self._result = Train.Result(success=False, message="train: the trainer did not accept it")
            return
        handle.get_result_async().add_done_callback(lambda done: self._on_result(done, future))

    def _on_result(self, future: Future, sent: Future) -> None:
        if sent is self._sent:
            self._result = future.result().result
