# SPDX-License-Identifier: Apache-2.0
"""Model predictive control as a node: time step + model + task -> plan."""

import math
import os
import time

import torch
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_msgs.msg import String

from mbrl_core.config import ConfigurationError
from mbrl_core.delay import whole_steps
from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_msgs.msg import ControllerState as ControllerStateMessage
from mbrl_msgs.msg import Model as ModelMessage
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_msgs.msg import Task as TaskMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_planner.controller import PredictiveController, cut_plan
from mbrl_planner.delay import DelayEstimator
from mbrl_planner.nodes.configuration import PlannerKind, PlannerNodeConfig
from mbrl_planner.nodes.garbage import GarbagePauses
from mbrl_planner.nodes.inputs import LatchedInputs
from mbrl_planner.nodes.optimism import OptimismWatch
from mbrl_planner.nodes.pending import Pending
from mbrl_planner.nodes.settings import TOPIC, PlannerSettings, computation
from mbrl_planner.nodes.statistics import SolveStatistics
from mbrl_planner.objective import ModelObjective, check_device
from mbrl_planner.planner import OutOfTime, PlannerConfig, PlanningError
from mbrl_planner.real_time_factor import RealTimeFactor
from mbrl_planner.registry import PLANNERS, build_planner
from mbrl_planner.risk import check_risk
from mbrl_ros import parameters
from mbrl_ros.conversions import MessageError, plan_to_message, time_step_from_message
from mbrl_ros.health import Health
from mbrl_ros.lifecycle import ManagedNode
from mbrl_ros.process import run
from mbrl_ros.qos import LATCHED, PLAN, QUIET_PUBLISHER, QUIET_SUBSCRIPTION, TIME_STEP_CONTROL
from mbrl_ros.steady import now_ns, steady_timer

FIRST_FRACTION = 0.5  # of the period, for the first plan of an episode: the robot waits for it a little longer


class PlannerNode(ManagedNode):
    """Answers the newest time step by a plan while the planner is the selected controller, or `always_on`.

    The spec, model, task and controller state in force are those that the latched topics brought last; an invalid one
    is refused, counted, and leaves the previous one in force. Without spec, model or task nothing is published:
    the robot then falls back on its safe action. A time step that requires a newer model or task waits for it.
    """

    def __init__(self) -> None:
        super().__init__("planner")
        torch.set_num_threads(1)
        self.settings = parameters.declare(self, PlannerNodeConfig)
        self._kind = parameters.declare(self, PlannerKind, "planner").kind
        self._config: PlannerConfig = parameters.declare(self, PLANNERS.get(self._kind).configuration, "planner")
        parameters.finish(self, parameters.names_of(PLANNERS.configurations(), "planner"))
        check_device(self._config.device)
        check_risk(self._config, self._config.propagation, self._config.particles)
        self._producer = f"{self.get_fully_qualified_name()}@{os.uname().nodename}:{os.getpid()}"
        told = PlannerSettings(self.settings, self._kind, self._config, self._producer, computation(self._config))
        self._config, self._lockstep = told.planned_config, told.lockstep
        self._settings_publisher = self.create_publisher(String, TOPIC, LATCHED, event_callbacks=QUIET_PUBLISHER)
        self._settings_publisher.publish(String(data=told.text()))
        self._health = Health(self)
        self._garbage = GarbagePauses()
        self._statistics = SolveStatistics()
        self._optimism = OptimismWatch()
        self._active = False
        self._hot = False
        self._inputs = LatchedInputs()
        self._interface_hash = ""
        self._pending: Pending | None = None
        self._controller: PredictiveController | None = None
        self._delay = DelayEstimator(1.0)
        self._factor = RealTimeFactor(1.0)
        self._plan_publisher = self.create_lifecycle_publisher(
            PlanMessage, "plan", PLAN, event_callbacks=QUIET_PUBLISHER
        )
        for kind, topic, callback, profile in (
            (RobotSpecMessage, "robot_spec", self._on_spec, LATCHED),
            (TaskMessage, "task", self._on_task, LATCHED),
            (ModelMessage, "model", self._on_model, LATCHED),
            (ControllerStateMessage, "controller_state", self._on_controller_state, LATCHED),
            (TimeStepMessage, "time_step", self._on_time_step, TIME_STEP_CONTROL),
        ):
            self.create_subscription(kind, topic, callback, profile, event_callbacks=QUIET_SUBSCRIPTION)
        self._report_timer = steady_timer(self, 1.0, self._report)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Plans from the next time step on."""
        self._active = True
        self._garbage.begin()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops planning and forgets the warm start; spec, model and task go on being followed."""
        self._active = False
        self._pending = None
        if self._controller is not None:
            self._controller.reset()
        self._garbage.end()
        return super().on_deactivate(state)

    def _on_spec(self, message: RobotSpecMessage) -> None:
        try:
            if not self._inputs.take_spec(message):
                return
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        spec = self._inputs.spec
        assert spec is not None
        self.get_logger().info(f"robot {spec.name!r}: period {spec.period} s, {spec.action.size} actions")
        self._interface_hash = spec.interface_hash
        self._controller = None
        self._pending = None
        self._delay = DelayEstimator(spec.period, self.settings.command_offset, spec.max_open_loop_steps)
        self._factor = RealTimeFactor(spec.period)
        early_task, early_model = self._inputs.early()
        if early_task is not None:
            self._on_task(early_task)
        if early_model is not None:
            self._on_model(early_model)
        if self._controller is None:
            self._inputs_changed()

    def _on_task(self, message: TaskMessage) -> None:
        try:
            taken = self._inputs.take_task(message)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        if taken:
            self._inputs_changed()

    def _on_model(self, message: ModelMessage) -> None:
        try:
            taken = self._inputs.take_model(message, self._config)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        if taken:
            self._inputs_changed()

    def _inputs_changed(self) -> None:
        """A new model or task is in force, whole, from the next plan on."""
        inputs = self._inputs
        if inputs.model is None or inputs.task is None or inputs.spec is None:
            return
        config = self._config
        try:
            objective = ModelObjective(
                inputs.model, inputs.task, config.particles, config.propagation, config, config.precision, config.device
            )
        except ConfigurationError as error:
            self._controller = None  # nothing is planned for a task that these parameters do not go with
            self._health.refuse("invalid_task", str(error))
            return
        if self._controller is None:
            planner = build_planner(self._kind, self._config, inputs.spec, objective, self.settings.seed)
            self._controller = PredictiveController(planner, self.settings.replan)
            self._warm_up()
        else:
            self._controller.planner.objective = objective
        self._answer_pending()

    def _warm_up(self) -> None:
        """The first plans of a process take several times as long; in realtime that must not be while the robot
        waits.
        """
        assert self._controller is not None
        if not self._lockstep:
            try:
                self._controller.planner.warm_up()
            except Exception as error:
                self._no_plan(error, "warm-up")
        if self._active:
            self._garbage.begin()

    def _on_controller_state(self, message: ControllerStateMessage) -> None:
        self._hot = self.settings.always_on or message.selected == self.settings.controller
        if self._hot:
            self._answer_pending()

    def _on_time_step(self, message: TimeStepMessage) -> None:
        received_ns = now_ns()
        spec = self._inputs.spec
        if not self._active or spec is None:
            return
        try:
            time_step = time_step_from_message(message, spec)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        self._factor.add(message.episode, message.step, message.sample_time_ns)
        if time_step.step_type == StepType.LAST:
            self._compare(time_step)
            self._pending = None
            self._end_episode(time_step)
            return
        self._pending = Pending.of(message, time_step, received_ns)
        self._answer_pending(fresh=True)
        self._compare(time_step)
        self._garbage.pause()

    def _answer_pending(self, fresh: bool = False) -> None:
        """Answers the pending time step if nothing is missing for that. `fresh`: it has just come, so that its
        latency counts.
        """
        pending = self._pending
        if pending is None or not self._hot or not self._active:
            return
        if self._inputs.missing(pending.time_step) or self._controller is None:
            return
        self._pending = None
        time_step = pending.time_step
        if time_step.step_type == StepType.FIRST:
            # The last time step of the episode before may have been lost; what is learned then takes its own time.
            self._end_episode(time_step)
        delay, budget = self._delay_and_budget(time_step)
        begin = time.monotonic()
        # Without an earlier plan that could serve again, a late one is better than none.
        started = pending.received if fresh and self._controller.planner.has_answer else begin
        deadline = None if budget is None else started + budget
        try:
            reply = self._controller.answer(time_step, delay, deadline)
        except Exception as error:
            self._no_plan(error, f"plan for step {time_step.step} of episode {time_step.episode}")
            return
        solve_time = time.monotonic() - begin
        self._publish(reply.plan, reply.start_step, time_step, solve_time)
        if reply.solved:
            spec = self._inputs.spec
            acts_from = reply.start_step + (whole_steps(spec) if spec is not None else 0)
            self._optimism.add_plan(time_step.episode, acts_from, reply.plan, self._inputs.task)
            self._statistics.add(solve_time, reply.plan.iterations, reply.plan.deadline_missed)
            if fresh and self.settings.replan:
                self._delay.add(pending.latency(time.monotonic()) * self._factor.value)

    def _end_episode(self, time_step: TimeStep) -> None:
        if self._controller is not None:
            try:
                self._controller.end_episode()
            except Exception as error:
                self._no_plan(error, f"end of the episode at step {time_step.step} of episode {time_step.episode}")

    def _compare(self, time_step: TimeStep) -> None:
        """What plans promised with what came of it."""
        try:
            self._optimism.add_time_step(time_step, self._inputs.task)
        except Exception as error:
            self._health.refuse("invalid_task", f"reward of step {time_step.step}: {error!r}")

    def _no_plan(self, error: Exception, what: str) -> None:
        """Counts what kept the planner from answering. Nothing that a planner raises ends the node."""
        reason, text = "invalid_plan", str(error)
        if isinstance(error, OutOfTime):
            reason = "out_of_time"
        elif not isinstance(error, PlanningError):
            reason, text = "planner_failed", repr(error)
            assert self._controller is not None
            self._controller.reset()
        self._health.refuse(reason, f"{what}: {text}")

    def _delay_and_budget(self, time_step: TimeStep) -> tuple[int, float | None]:
        """Steps until the answer's first row, and seconds for finding it."""
        assert self._controller is not None
        delay = self._delay_steps()
        if self._lockstep:
            return delay, None
        period = self._controller.planner.spec.period / self._factor.value
        if time_step.step_type == StepType.FIRST and self._controller.replan and self.settings.delay_steps < 0:
            # The robot waits for the first action of an episode, though not for the whole interval.
            return 0, FIRST_FRACTION * period
        if self._controller.replan or not self._controller.needs_solve(time_step):
            return delay, self.settings.deadline_fraction * period
        # The one plan of an open-loop episode is long: it starts as late as it takes to find it.
        if self.settings.delay_steps < 0:
            expected = self._controller.planner.expected_seconds()
            delay = max(delay, math.ceil(expected / (self.settings.deadline_fraction * period)))
        return delay, self.settings.deadline_fraction * period * max(1, delay)

    def _delay_steps(self) -> int:
        if self.settings.delay_steps >= 0:
            return self.settings.delay_steps
        return 0 if self._lockstep else self._delay.steps

    def _publish(self, plan: Plan, start_step: int, time_step: TimeStep, solve_time: float) -> None:
        if self.settings.plan_rows:
            plan = cut_plan(plan, 0, self.settings.plan_rows)
        message = plan_to_message(
            plan,
            self._interface_hash,
            self.get_clock().now().to_msg(),
            episode=time_step.episode,
            start_step=start_step,
            answers_step=time_step.step,
            controller=self.settings.controller,
            producer=self._producer,
            model_version=self._inputs.model_version,
            task_version=self._inputs.task_version,
            solve_time=solve_time,
        )
        self._plan_publisher.publish(message)

    def _report(self) -> None:
        """Figures for /diagnostics, which Health publishes."""
        inputs, health = self._inputs, self._health
        for name, value in (self._statistics.figures() | self._optimism.figures()).items():
            health.set(name, value)
        health.set("delay_steps", self._delay_steps())
        health.set("real_time_factor", self._factor.value)
        health.set("model_version", inputs.model_version)
        health.set("task_version", inputs.task_version)
        age = math.nan if inputs.model is None else (now_ns() - inputs.model_received_ns) * 1e-9
        health.set("model_age_s", age)
        if inputs.spec is None:
            health.warn("no robot_spec yet")
        elif not self._active:
            health.ok("not active")
        elif self._pending is not None and self._hot:
            health.warn(f"not planning: {inputs.missing(self._pending.time_step)}")
        elif not self._hot:
            health.ok("idle: another controller is selected")
        else:
            health.ok("planning")


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(PlannerNode)
