# SPDX-License-Identifier: Apache-2.0
"""Bags of pendulum episodes under a real planner, made without a graph: what planner_node would be heard to say."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.serde import SerdeError
from std_msgs.msg import String

from mbrl_core.dataset import Transitions
from mbrl_core.messages import EndReason, Plan, StepType, TimeStep
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import make_task
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.nodes.model_message import model_to_message
from mbrl_dynamics.registry import make_model
from mbrl_planner.controller import PredictiveController, cut_plan
from mbrl_planner.errors import PlanningError
from mbrl_planner.nodes.settings import PlannerSettings, computation, settings_from_parameters
from mbrl_planner.objective import ModelObjective
from mbrl_planner.registry import build_planner
from mbrl_policy.bag_writer import BagWriter
from mbrl_policy.nodes.recorded_topics import topics_of_a_run
from mbrl_robot.simulation import MujocoSimulation
from mbrl_ros.bag_types import make_typestore
from mbrl_ros.conversions import plan_to_message, spec_to_message, task_to_message, time_step_to_message

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
STAMP = Time()
PRODUCER = "/planner@test:1"
SMALL = {
    "mode": "lockstep",
    "seed": 7,
    "planner.kind": "icem",
    "planner.horizon": 8,
    "planner.population_size": 24,
    "planner.iterations": 2,
}
TOO_FAST = np.array([0.0, 1e38])  # no prediction from there is finite in single precision


def pendulum() -> Robot:
    """The robot of config/robots."""
    return load_robot(ROBOTS / "pendulum.yaml")


def small_model(robot: Robot, seed: int) -> DynamicsModel:
    """A small ensemble fitted to something like a pendulum."""
    random = np.random.default_rng(seed)
    state = random.normal(size=(120, 2)) * (2.0, 4.0)
    action = random.uniform(robot.spec.action.lower, robot.spec.action.upper, (120, 1))
    following = state.copy()
    following[:, 1] += robot.spec.period * (8.0 * action[:, 0] - 19.6 * np.sin(state[:, 0]))
    following[:, 0] += robot.spec.period * following[:, 1]
    model = make_model("ensemble", {"members": 5, "hidden_size": 16, "first_steps": 40}, robot.spec, seed)
    model.fit(Transitions(state, action, following, np.zeros(120, dtype=int), np.arange(120)), seed)
    return model


@dataclass
class Script:
    """What happens in the episodes of a bag."""

    parameters: dict[str, Any] = field(default_factory=dict)  # of the planner, beside SMALL
    steps: int = 12
    episodes: int = 1
    explored: Collection[int] = ()  # steps of every episode that another controller answers, and the planner does not
    too_fast: Collection[int] = ()  # steps of every episode at which the state lets no planner find a plan
    lost: Collection[int] = ()  # steps of every episode that the recorder did not hear of
    second_model_at: int = -1  # step of every episode before which another model is in force
    tell_settings: bool = True


class Recording:
    """Writes a bag while it plays the robot, the planner and the others."""

    def __init__(self, path: Path, script: Script) -> None:
        self.robot, self.script = pendulum(), script
        told = settings_from_parameters({**SMALL, **script.parameters}, producer=PRODUCER)
        self.settings = PlannerSettings(told.node, told.kind, told.config, PRODUCER, computation(told.config))
        self._bag = BagWriter(path)
        self._types = make_typestore()
        self._connections = {
            topic.name: self._bag.add_topic(f"/{topic.name.lstrip('/')}", topic.type_name, topic.bag_qos())
            for topic in topics_of_a_run(self.robot.command_topic)
        }
        self._time = 0
        self._version = 0
        self._controller: PredictiveController | None = None
        self.task = make_task("pendulum_upright", version=1)

    def __enter__(self) -> "Recording":
        spec = self.robot.spec
        self.write("robot_spec", spec_to_message(spec, STAMP))
        self.write("task", task_to_message(self.task, spec.interface_hash, STAMP))
        if self.script.tell_settings:
            self.write("planner_settings", String(data=self.settings.text()))
        return self

    def __exit__(self, *_: object) -> None:
        self._bag.close()

    def write(self, topic: str, message: Any) -> None:
        self._time += 1_000_000
        connection = self._connections[topic]
        self._bag.write(connection, self._time, self._serialised(message, connection.msgtype))

    def _serialised(self, message: Any, type_name: str) -> bytes:
        """As it goes over the wire: what rclpy serialises into a buffer may have a few bytes of it left over."""
        content = bytes(serialize_message(message))
        for left_over in (0, 4, 8):
            whole = content[: len(content) - left_over]
            with suppress(SerdeError):
                self._types.deserialize_cdr(whole, type_name)
                return whole
        raise ValueError(f"{type_name}: {len(content)} bytes are more than the message takes")

    def publish_model(self, model: DynamicsModel) -> None:
        """A new version, in force at once."""
        self._version += 1
        self.write("model", model_to_message(model, self._version, "/learner@test:2", Time()))
        config = self.settings.planned_config
        objective = ModelObjective(
            model, self.task, config.particles, config.propagation, config, config.precision, config.device
        )
        if self._controller is None:
            node = self.settings.node
            planner = build_planner(self.settings.kind, config, self.robot.spec, objective, node.seed)
            self._controller = PredictiveController(planner, node.replan)
        else:
            self._controller.planner.objective = objective

    def answer(self, time_step: TimeStep) -> Array:
        """First action of the plan that answers; zero without one, as a robot's safe action."""
        assert self._controller is not None
        zero = np.zeros(self.robot.spec.action.size)
        if time_step.step in self.script.explored:
            self._publish(Plan(np.full((1, 1), 0.5)), time_step, "explore", time_step.step)
            return np.full(1, 0.5)
        try:
            reply = self._controller.answer(time_step, max(0, self.settings.node.delay_steps))
        except PlanningError:
            return zero
        rows = self.settings.node.plan_rows
        plan = cut_plan(reply.plan, 0, rows) if rows else reply.plan
        self._publish(plan, time_step, "planner", reply.start_step)
        return plan.actions[0] if reply.start_step == time_step.step else zero

    def _publish(self, plan: Plan, time_step: TimeStep, controller: str, start_step: int) -> None:
        is_planner = controller == "planner"
        message = plan_to_message(
            plan,
            self.robot.spec.interface_hash,
            STAMP,
            episode=time_step.episode,
            start_step=start_step,
            answers_step=time_step.step,
            controller=controller,
            producer=PRODUCER if is_planner else "/explore@test:3",
            model_version=self._version if is_planner else 0,
            task_version=1 if is_planner else 0,
            solve_time=0.001,
        )
        self.write("plan", message)

    def play(self, number: int, models: Callable[[int], DynamicsModel]) -> None:
        """An episode, with models of seeds `number` and, where the script wants a second one, 100 + `number`."""
        simulation, script = MujocoSimulation(self.robot), self.script
        state = simulation.reset(np.array([0.3 * number, 0.0]))
        self.publish_model(models(number))
        action = np.full(1, np.nan)
        for step in range(script.steps + 1):
            if step == script.second_model_at:
                self.publish_model(models(100 + number))
            last = step == script.steps
            time_step = TimeStep(
                episode=number,
                step=step,
                step_type=StepType.LAST if last else StepType.MID if step else StepType.FIRST,
                end_reason=EndReason.TIME_LIMIT if last else EndReason.NOT_ENDED,
                state=TOO_FAST if step in script.too_fast else state,
                action=action,
                action_valid=step > 0,
                controller="planner" if step else "",
                committed_actions=np.zeros((0, 1)),
            )
            if step not in script.lost:
                self.write("time_step", time_step_to_message(time_step, self.robot.spec.interface_hash, STAMP))
            if last:
                assert self._controller is not None
                self._controller.end_episode()
            else:
                action = np.clip(self.answer(time_step), self.robot.spec.action.lower, self.robot.spec.action.upper)
                state = simulation.step(action)


def record(path: Path, script: Script) -> Path:
    """Writes the bag of a script."""
    robot = pendulum()
    with Recording(path, script) as recording:
        for number in range(1, script.episodes + 1):
            recording.play(number, lambda seed: small_model(robot, seed))
    return path
