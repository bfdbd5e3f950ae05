# SPDX-License-Identifier: Apache-2.0
"""A robot's side of the graph, for tests of planner_node over real DDS."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from mbrl_core.dataset import Transitions
from mbrl_core.messages import StepType, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import make_task
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.nodes.model_message import model_to_message
from mbrl_dynamics.registry import make_model
from mbrl_msgs.msg import ControllerState, Model, Plan, RobotSpec, Task
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_planner.nodes.planner_node import PlannerNode
from mbrl_ros.conversions import spec_to_message, task_to_message, time_step_to_message
from mbrl_ros.qos import LATCHED, PLAN, STATUS, TIME_STEP_RECORD

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
SPEC = load_robot(ROBOTS / "cartpole.yaml").spec
OTHER_SPEC = load_robot(ROBOTS / "acrobot.yaml").spec
STAMP = Time()


def learned_model(seed: int = 0, members: int = 5) -> DynamicsModel:
    """A small ensemble fitted to a cart without a pole, well enough to plan with."""
    random = np.random.default_rng(seed)
    state = random.normal(size=(200, 4))
    action = random.uniform(-3.0, 3.0, (200, 1))
    following = state.copy()
    following[:, 2] += 0.2 * action[:, 0]
    following[:, :2] += SPEC.period * following[:, 2:]
    model = make_model("ensemble", {"members": members, "hidden_size": 16, "first_steps": 30}, SPEC, seed)
    model.fit(Transitions(state, action, following, np.zeros(200, dtype=int), np.arange(200)), seed)
    return model


def model_message(model: DynamicsModel, version: int, **changes: Any) -> Model:
    """The message of a model; `changes` replace fields after the checksum was made."""
    message = model_to_message(model, version, "test", Time())
    for name, value in changes.items():
        setattr(message, name, value)
    return message


class Graph:
    """A planner node, and the publishers and subscriptions of everyone around it, spun in one thread."""

    def __init__(self) -> None:
        self.planner = PlannerNode()
        self.node = Node("everyone_else")
        self.plans: list[Plan] = []
        self.figures: dict[str, str] = {}
        self.status = ""
        self._spec = self.node.create_publisher(RobotSpec, "robot_spec", LATCHED)
        self._task = self.node.create_publisher(Task, "task", LATCHED)
        self._model = self.node.create_publisher(Model, "model", LATCHED)
        self._state = self.node.create_publisher(ControllerState, "controller_state", LATCHED)
        self._time_step = self.node.create_publisher(TimeStepMessage, "time_step", TIME_STEP_RECORD)
        self.node.create_subscription(Plan, "plan", self.plans.append, PLAN)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, STATUS)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.planner)
        self._executor.add_node(self.node)
        self.until(
            lambda: self._time_step.get_subscription_count() == 1 and self.planner.count_subscribers("plan") == 1
        )

    def close(self) -> None:
        self._executor.shutdown()
        self.planner.destroy_node()
        self.node.destroy_node()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.status = status.message
            self.figures = {item.key: item.value for item in status.values}

    def until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Spins until `condition` holds; fails after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"timed out; status {self.status!r}, figures {self.figures}"
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Spins for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def publish_spec(self, **changes: Any) -> None:
        message = spec_to_message(SPEC, STAMP)
        for name, value in changes.items():
            setattr(message, name, value)
        self._spec.publish(message)

    def publish_task(self, version: int = 1, **changes: Any) -> None:
        message = task_to_message(make_task("cartpole_tip", version=version), SPEC.interface_hash, STAMP)
        for name, value in changes.items():
            setattr(message, name, value)
        self._task.publish(message)

    def publish_model(self, message: Model) -> None:
        self._model.publish(message)

    def select(self, selected: str) -> None:
        self._state.publish(ControllerState(selected=selected, active=selected, chain=[selected, "planner", "safe"]))

    def step(
        self,
        step: int,
        episode: int = 1,
        step_type: StepType | None = None,
        changes: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Publishes a time step of the cart-pole at rest; `changes` replace fields of the message."""
        if step_type is None:
            step_type = StepType.FIRST if step == 0 else StepType.MID
        time_step = TimeStep(
            episode, step, step_type, np.array([0.1, 0.0, 0.0, 0.0]), np.full(1, np.nan if step == 0 else 0.5),
            committed_actions=np.array([[0.5], [0.5]]), **fields,
        )  # fmt: skip
        message = time_step_to_message(time_step, SPEC.interface_hash, STAMP)
        message.sample_time_ns = message.publish_time_ns = time.monotonic_ns()
        for name, value in (changes or {}).items():
            setattr(message, name, value)
        self._time_step.publish(message)

    def answer(self, step: int, episode: int = 1, **fields: Any) -> Plan:
        """Publishes a time step and waits for the plan that answers it."""
        self.step(step, episode, **fields)
        self.until(lambda: any((plan.episode, plan.answers_step) == (episode, step) for plan in self.plans))
        return next(plan for plan in self.plans if (plan.episode, plan.answers_step) == (episode, step))

    def first_answer(self) -> Plan:
        """The answer to step 0 of the first episode that gets one: on a machine that stands still in the middle of it
        there is no time for a single candidate, which the node counts.
        """
        for episode in range(1, 6):
            before = self.refused("out_of_time")
            self.step(0, episode)
            self.until(lambda: bool(self.plans) or self.refused("out_of_time") > before)  # noqa: B023 - called here
            if self.plans:
                return self.plans[0]
        raise AssertionError(f"no plan in five episodes; figures {self.figures}")

    def refused(self, kind: str) -> int:
        """How often the node has refused an input of that kind."""
        return int(self.planner._health.refused[kind])
