# SPDX-License-Identifier: Apache-2.0
"""Who has the last word when a trial is to be handed over in mid-motion: a real service in a domain of its own."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from mbrl_bringup.domains import reserved_domain
from mbrl_bringup.experiment import ExperimentConfig, make_trials
from mbrl_bringup.nodes.live_handover import LiveHandover
from mbrl_msgs.srv import SelectController
from mbrl_ros.health import Health

TRIALS = make_trials(ExperimentConfig(trials=2, policy_trials=2, handover_step=3))
LIVE, AFTER = TRIALS[2:]


@pytest.fixture
def scene() -> Iterator[SimpleNamespace]:
    """A hand-over, what was asked of the service, and what was refused."""
    with reserved_domain() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=domain)
        node = rclpy.create_node("test_handover", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        asked: list[str] = []
        refused: list[str] = []
        answer = SimpleNamespace(success=True, message="")

        def serve(request: SelectController.Request, response: SelectController.Response) -> SelectController.Response:
            asked.append(request.controller)
            response.success, response.message = answer.success, answer.message
            return response

        def wait(condition: Callable[[], object]) -> bool:
            end = time.monotonic() + 10.0
            while not condition() and time.monotonic() < end:
                executor.spin_once(timeout_sec=0.05)
            return bool(condition())

        def serving() -> bool:
            """Begins to serve; whether the hand-over has found it."""
            node.create_service(SelectController, "select_controller", serve)
            return wait(lambda: handover._client.service_is_ready())

        health = Health(node)
        refuse = health.refuse

        def noted(reason: str, text: str) -> None:
            refused.append(text)
            refuse(reason, text)

        health.refuse = noted  # type: ignore[method-assign]
        handover = LiveHandover(node, health)
        yield SimpleNamespace(
            handover=handover, asked=asked, refused=refused, answer=answer, serving=serving, wait=wait,
        )  # fmt: skip
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_a_trial_is_handed_over_once_at_its_step(scene: SimpleNamespace) -> None:
    handover = scene.handover
    assert scene.serving()
    handover.begin(LIVE)
    handover.note_selection("planner")
    assert handover.awaited_from("planner") and not handover.awaited_from("safe")
    handover.follow(2)
    assert handover._asked is None
    for step in (3, 4, 5):
        handover.follow(step)
    assert scene.wait(lambda: scene.asked)
    # The robot may still say what it was before it heard of it.
    assert handover.awaited_from("planner")
    handover.note_selection("policy")
    assert not handover.awaited_from("planner")  # whoever selects it now means it
    handover.finish()
    handover.begin(AFTER)
    handover.follow(10)
    assert scene.asked == ["policy"] and not scene.refused


def test_who_stopped_the_robot_has_the_last_word(scene: SimpleNamespace) -> None:
    handover = scene.handover
    assert scene.serving()
    handover.begin(LIVE)
    handover.note_selection("planner")
    handover.note_selection("safe")
    for step in range(3, 9):
        handover.follow(step)
    handover.finish()
    assert not scene.asked and not scene.refused


def test_what_was_not_handed_over_is_told(scene: SimpleNamespace) -> None:
    handover = scene.handover
    handover.begin(LIVE)
    handover.note_selection("planner")
    handover.follow(3)
    handover.finish()
    assert "'policy' was not selected in its trial, expected from step 3 on" in scene.refused[0]
    assert scene.serving()
    scene.answer.success, scene.answer.message = False, "the emergency stop is latched"
    handover.begin(LIVE)
    handover.note_selection("planner")
    handover.follow(3)
    assert scene.wait(lambda: len(scene.refused) == 2) and "emergency stop" in scene.refused[1]
