# SPDX-License-Identifier: Apache-2.0
"""Hands the robot from one controller to another while it moves."""

from rclpy.node import Node
from rclpy.task import Future

from mbrl_bringup.experiment import Trial
from mbrl_msgs.srv import SelectController
from mbrl_ros.health import Health


class LiveHandover:
    """Selects a trial's controller at its `handover_step`, once a trial. Nothing here waits."""

    def __init__(self, node: Node, health: Health) -> None:
        self._node, self._health = node, health
        self._client = node.create_client(SelectController, "select_controller")
        self._asked = False

    def begin(self) -> None:
        """A trial begins."""
        self._asked = False

    def follow(self, trial: Trial, step: int) -> None:
        """The trial is at `step`."""
        if self._asked or not trial.begins_with or step < trial.handover_step:
            return
        self._asked = True
        self._node.get_logger().info(f"step {step}: {trial.controller!r} takes over from {trial.begins_with!r}")
        request = SelectController.Request(controller=trial.controller)
        self._client.call_async(request).add_done_callback(self._on_answer)

    def _on_answer(self, future: Future) -> None:
        answer = future.result()
        if answer is None or not answer.success:
            text = "no answer" if answer is None else answer.message
            self._health.refuse("select_controller", f"hand-over: {text}; the trial goes on with who began it")
