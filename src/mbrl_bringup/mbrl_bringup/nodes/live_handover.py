# SPDX-License-Identifier: Apache-2.0
"""Hands the robot from one controller to another while it moves."""

from typing import Any

from rclpy.node import Node
from rclpy.task import Future

from mbrl_bringup.experiment import Trial
from mbrl_msgs.srv import SelectController
from mbrl_ros.health import Health


class LiveHandover:
    """Selects a trial's controller at its `handover_step`, if the one that began it is still selected then: whoever
    selected another in the meantime, perhaps to stop the robot, has the last word. Nothing here waits.
    """

    def __init__(self, node: Node, health: Health) -> None:
        self._node, self._health = node, health
        self._client = node.create_client(SelectController, "select_controller")
        self._selected = ""
        self._trial: Trial | None = None  # the one whose hand-over is still to come
        self._asked: Any = None

    def begin(self, trial: Trial) -> None:
        """A trial is about to begin."""
        self._trial, self._asked = trial if trial.begins_with else None, None

    def note_selection(self, selected: str) -> None:
        """The robot says who is selected."""
        self._selected = selected
        if self._trial is not None and selected == self._trial.controller:
            self._trial = None

    def awaited_from(self, selected: str) -> bool:
        """Whether `selected` has begun the trial and is yet to hand it over: nobody has chosen it by hand."""
        return self._trial is not None and selected == self._trial.begins_with

    def follow(self, step: int) -> None:
        """The trial is at `step`."""
        trial = self._trial
        if trial is None or self._asked is not None or step < trial.handover_step:
            return
        if self._selected != trial.begins_with:
            self._trial = None
            self._node.get_logger().warning(f"no hand-over: {self._selected!r} has been selected")
        elif self._client.service_is_ready():
            self._node.get_logger().info(f"step {step}: {trial.controller!r} takes over from {trial.begins_with!r}")
            self._asked = self._client.call_async(SelectController.Request(controller=trial.controller))
            self._asked.add_done_callback(self._on_answer)

    def finish(self) -> None:
        """The trial has ended."""
        if self._trial is not None:
            name = self._trial.controller
            self._refuse(f"{name!r} was not selected in its trial, expected from step {self._trial.handover_step} on")
        self._trial = self._asked = None

    def _on_answer(self, future: Future) -> None:
        if future is not self._asked:  # the trial has ended
            return
        if future.exception() is not None:
            self._refuse(repr(future.exception()))
            return
        answer = future.result()
        if answer is None or not answer.success:
            self._refuse("no answer" if answer is None else answer.message)

    def _refuse(self, text: str) -> None:
        self._health.refuse("select_controller", f"hand-over: {text}")
