# SPDX-License-Identifier: Apache-2.0
"""Asks trainer_node to train, and asks again when it has died and come back."""

import math

from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from mbrl_msgs.action import Train
from mbrl_ros.qos import ANSWER_TIMEOUT
from mbrl_ros.steady import now_ns


class TrainingClient:
    """One goal of the action `train` at a time. Nothing here waits: `poll` it.

    A trainer that is killed goes on from its checkpoint when the same is asked of it again. One that comes back at once
    is known by its new endpoints: middleware goes on showing those of the dead one for a while, so that the action
    seems to be served all along. A goal that is not answered, lost where the two sides have only half discovered each
    other, is sent again.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._client = ActionClient(node, Train, "train")
        self._goal: Train.Goal | None = None
        self._sent_ns = 0
        self._life = 0  # of the trainer: counts up as it comes back
        self._servers: frozenset[bytes] | None = None  # those that the goal was sent to; None: not sent
        self._accepted: Future | None = None  # the answer that says that one of them has it
        self._result: Train.Result | None = None
        self.feedback = Train.Feedback(mean_return=math.nan, kl=math.nan, loss=math.nan)

    def begin(self, goal: Train.Goal) -> None:
        """Sends a goal as soon as there is a trainer."""
        self._goal, self._servers, self._accepted, self._result = goal, None, None, None
        self.poll()

    def poll(self) -> Train.Result | None:
        """The result, once there is one."""
        if self._goal is None:
            return None
        if self._result is not None:
            result, self._goal, self._result = self._result, None, None
            return result
        if not self._client.server_is_ready():
            return None
        servers = self._find_servers()
        if self._servers is None:
            self._send(self._goal, servers)
        elif servers - self._servers:
            self._node.get_logger().warning("the trainer was gone and is back: it is asked again")
            self._accepted = None
            self._life += 1
            self._send(self._goal, servers)
        elif self._accepted is None and (now_ns() - self._sent_ns) * 1e-9 > ANSWER_TIMEOUT:
            self._send(self._goal, servers)
        return None

    def cancel(self) -> None:
        """Forgets the goal; what the trainer has found is its own."""
        self._goal = None

    def _find_servers(self) -> frozenset[bytes]:
        """Who serves the action, dead ones included until middleware has noticed."""
        publishers = self._node.get_publishers_info_by_topic("train/_action/status")
        return frozenset(bytes(publisher.endpoint_gid) for publisher in publishers)

    def _send(self, goal: Train.Goal, servers: frozenset[bytes]) -> None:
        self._servers, self._sent_ns = servers, now_ns()
        sent, life = self._client.send_goal_async(goal, feedback_callback=self._on_feedback), self._life
        sent.add_done_callback(lambda future: self._on_answer(future, goal, life))

    def _on_feedback(self, message: Train.Impl.FeedbackMessage) -> None:
        self.feedback = message.feedback

    def _on_answer(self, future: Future, goal: Train.Goal, life: int) -> None:
        handle = future.result()
        if goal is not self._goal or life != self._life or self._accepted is not None:
            return  # of an earlier goal or trainer; or this trainer has it already, and refuses the second
        self._accepted = future
        if handle is None or not handle.accepted:
            self._result = Train.Result(success=False, message="train: the trainer did not accept it")
            return
        handle.get_result_async().add_done_callback(lambda done: self._on_result(done, future))

    def _on_result(self, future: Future, accepted: Future) -> None:
        if accepted is self._accepted:
            self._result = future.result().result
