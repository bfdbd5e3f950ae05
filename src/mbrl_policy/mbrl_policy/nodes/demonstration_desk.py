# SPDX-License-Identifier: Apache-2.0
"""Starts, ends and labels episodes for a person, through the services of robot_node and recorder_node."""

from typing import Any

from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

from mbrl_msgs.action import StartEpisode
from mbrl_msgs.msg import EpisodeLabel, TimeStep
from mbrl_msgs.srv import EndEpisode, Record, SelectController
from mbrl_ros.health import Health
from mbrl_ros.steady import now_ns

PATIENCE_NS = 5_000_000_000


class DemonstrationDesk:
    """Asks, never waits. What is refused or not there is counted as `desk/...` and said in the log."""

    def __init__(self, node: Node, health: Health) -> None:
        self._node = node
        self._health = health
        self._starts = ActionClient(node, StartEpisode, "start_episode")
        self._select = node.create_client(SelectController, "select_controller")
        self._end = node.create_client(EndEpisode, "end_episode")
        self._record = node.create_client(Record, "record")
        self._starting = False
        self._asked_ns = 0

    def select(self, controller: str) -> None:
        """Asks robot_node to let `controller` move the robot."""
        self._call(self._select, SelectController.Request(controller=controller), "select_controller")

    def start(self, controller: str, max_steps: int) -> None:
        """Starts an episode of at most `max_steps` (0: unlimited), and recording where there is a recorder."""
        # An answer can be lost while two nodes have only half discovered each other: the button then works again.
        if self._starting and now_ns() - self._asked_ns < PATIENCE_NS:
            return
        if not self._starts.server_is_ready():
            self._health.refuse("desk/start_episode", "start_episode: nobody serves it; expected robot_node")
            return
        self._starting, self._asked_ns = True, now_ns()
        goal = StartEpisode.Goal(controller=controller, max_steps=max_steps)
        if not self._record.service_is_ready():
            self._begin(goal)
            return
        # An episode that is to be recorded does not begin before its bag is open, nor without it.
        opened = self._record.call_async(Record.Request(command=Record.Request.START))
        opened.add_done_callback(lambda future: self._on_bag(future, goal))

    def finish(self, episode: int, running: bool, outcome: int, discarded: bool) -> None:
        """Ends an episode that is running, and labels it where there is a recorder."""
        if episode == 0:
            self._health.refuse("desk/label", "label: there has been no episode; expected one to say something of")
            return
        if running:
            request = EndEpisode.Request(episode=episode, end_reason=TimeStep.TERMINATED)
            self._call(self._end, request, "end_episode")
        label = EpisodeLabel(episode=episode, outcome=outcome, discarded=discarded)
        if self._record.service_is_ready():
            self._call(self._record, Record.Request(command=Record.Request.LABEL, label=label), "record")
        else:
            self._health.refuse("desk/record", f"record: no recorder, so episode {episode} has no label")

    def _on_bag(self, future: Future, goal: StartEpisode.Goal) -> None:
        answer = future.result()
        if answer is not None and answer.success:
            self._begin(goal)
            return
        self._starting = False
        self._health.refuse("desk/record", "record: no answer" if answer is None else answer.message)

    def _begin(self, goal: StartEpisode.Goal) -> None:
        self._starts.send_goal_async(goal).add_done_callback(self._on_start_answer)

    def _on_start_answer(self, future: Future) -> None:
        handle = future.result()
        if handle is None or not handle.accepted:
            self._starting = False
            self._health.refuse("desk/start_episode", "start_episode: robot_node does not accept it")
            return
        handle.get_result_async().add_done_callback(self._on_started)

    def _on_started(self, future: Future) -> None:
        self._starting = False
        answer = future.result()
        if answer is None or not answer.result.success:
            text = "no answer" if answer is None else answer.result.message
            self._health.refuse("desk/start_episode", text)
            return
        self._node.get_logger().info(f"episode {answer.result.episode} has begun")

    def _call(self, client: Client, request: Any, name: str) -> None:
        if not client.service_is_ready():
            self._health.refuse(f"desk/{name}", f"{name}: nobody serves it")
            return

        def answered(future: Future) -> None:
            answer = future.result()
            if answer is None or not answer.success:
                self._health.refuse(f"desk/{name}", f"{name}: no answer" if answer is None else answer.message)

        client.call_async(request).add_done_callback(answered)
