# SPDX-License-Identifier: Apache-2.0
"""Controller `policy`: time step + policy -> a short plan."""

import math
import os
import time
from dataclasses import dataclass

import torch
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.messages import StepType
from mbrl_msgs.msg import ControllerState as ControllerStateMessage
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_planner.controller import cut_plan
from mbrl_planner.delay import DelayEstimator
from mbrl_planner.nodes.garbage import GarbagePauses
from mbrl_planner.nodes.pending import Pending
from mbrl_planner.nodes.statistics import SolveStatistics
from mbrl_policy.agreement import AgreementConfig
from mbrl_policy.nodes.agreement_watch import AgreementWatch
from mbrl_policy.nodes.policy_source import PolicySource
from mbrl_policy.policy_controller import PolicyController, PolicyFailed
from mbrl_ros import parameters
from mbrl_ros.conversions import MessageError, plan_to_message, time_step_from_message
from mbrl_ros.health import Health
from mbrl_ros.lifecycle import ManagedNode
from mbrl_ros.process import run
from mbrl_ros.qos import LATCHED, PLAN, QUIET_PUBLISHER, QUIET_SUBSCRIPTION, TIME_STEP_CONTROL
from mbrl_ros.steady import now_ns, steady_timer

DELAY_INTERVAL = (
    0.01  # seconds at least between two latencies that count: weighing each would cost as much as answering
)

# Of SolveStatistics, and what they are called here.
FIGURES = {
    "plans": "plans",
    "plan_rate": "plan_rate",
    "plan_jitter_ms_p50": "plan_jitter_ms_p50",
    "plan_jitter_ms_p99": "plan_jitter_ms_p99",
    "solve_time_p50_s": "inference_p50_s",
    "solve_time_p99_s": "inference_p99_s",
}


@dataclass(frozen=True)
class PolicyNodeConfig:
    """Parameters of policy_node; everything else comes with the robot_spec and policy messages."""

    mode: str = parameter(
        "realtime",
        "realtime: measures how many steps its answer takes; lockstep: none, same policy same bytes",
        choices=("realtime", "lockstep"),
        read_only=True,
    )
    controller: str = parameter("policy", "name in the robot's controller chain", read_only=True)
    always_on: bool = parameter(
        False, "also answer while another controller is selected, ready to take over at any step", read_only=True
    )
    policy_file: str = parameter(
        "", "checkpoint of the policy until one comes on the topic; empty waits for that", read_only=True
    )
    plan_rows: int = parameter(
        2, "rows of each plan; those after the first serve when the next plan comes late", minimum=1, maximum=100,
        read_only=True,
    )  # fmt: skip
    delay_steps: int = parameter(
        -1, "steps between the state and the first row of its plan; -1 measures it in realtime and is 0 in lockstep",
        minimum=-1, maximum=100, read_only=True,
    )  # fmt: skip
    command_offset: float = parameter(
        0.0, "seconds after the sample at which the robot sends an interval's action, as in the robot file",
        minimum=0.0, read_only=True,
    )  # fmt: skip


class PolicyNode(ManagedNode):
    """Answers the newest time step while the policy is the selected controller, or `always_on`.

    A policy that comes on the latched topic replaces the one in force between two answers, whole; one that is not of
    this robot, damaged, of wrong shape or not finite is refused and counted, and the one in force stays. Without spec
    or policy nothing is published: the next controller of the robot's chain then serves. With `agreement.planner`, a
    planner that plans along, the policy is also silent unless it agrees with that (`AgreementMonitor`).
    """

    def __init__(self) -> None:
        super().__init__("policy")
        torch.set_num_threads(1)
        self.settings = parameters.declare(self, PolicyNodeConfig)
        agreement = parameters.declare(self, AgreementConfig, "agreement")
        parameters.finish(self)
        if agreement.planner and self.settings.mode == "lockstep":
            raise ConfigurationError(
                f"parameter 'agreement.planner': got {agreement.planner!r} in lockstep, which waits for the answer of"
                " who is selected; expected realtime, or an empty text"
            )
        if self.settings.policy_file and not os.path.isfile(self.settings.policy_file):
            raise FileNotFoundError(f"parameter 'policy_file': no file {self.settings.policy_file!r}")
        self._lockstep = self.settings.mode == "lockstep"
        self._producer = f"{self.get_fully_qualified_name()}@{os.uname().nodename}:{os.getpid()}"
        self._health = Health(self)
        self._agreement = AgreementWatch(self, agreement, self._health)
        self._garbage = GarbagePauses()
        self._statistics = SolveStatistics()
        self._source = PolicySource(self.settings.policy_file)
        self._active = False
        self._hot = self.settings.always_on
        self._pending: Pending | None = None
        self._controller: PolicyController | None = None
        self._delay = DelayEstimator(1.0)
        self._delay_measured = 0.0
        self._beyond_horizon = False
        self._plan_publisher = self.create_lifecycle_publisher(
            PlanMessage, "plan", PLAN, event_callbacks=QUIET_PUBLISHER
        )
        for kind, topic, callback, profile in (
            (RobotSpecMessage, "robot_spec", self._on_spec, LATCHED),
            (PolicyMessage, "policy", self._on_policy, LATCHED),
            (ControllerStateMessage, "controller_state", self._on_controller_state, LATCHED),
            (TimeStepMessage, "time_step", self._on_time_step, TIME_STEP_CONTROL),
        ):
            self.create_subscription(kind, topic, callback, profile, event_callbacks=QUIET_SUBSCRIPTION)
        self._report_timer = steady_timer(self, 1.0, self._report)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answers from the next time step on."""
        self._active = True
        self._garbage.begin()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops answering; spec and policy go on being followed."""
        self._active = False
        self._pending = None
        self._garbage.end()
        return super().on_deactivate(state)

    def _on_spec(self, message: RobotSpecMessage) -> None:
        source = self._source
        try:
            if not source.take_spec(message):
                return
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        assert source.spec is not None
        self.get_logger().info(f"robot {source.spec.name!r}: period {source.spec.period} s")
        self._pending = self._controller = None
        spec = source.spec
        self._delay = DelayEstimator(spec.period, self.settings.command_offset, spec.max_open_loop_steps)
        if source.policy is not None:
            self._policy_changed()
        early = source.early()
        if early is not None:
            self._on_policy(early)
        try:
            if source.take_file():
                self._policy_changed()
        except MessageError as error:
            self._health.refuse(error.reason, str(error))

    def _on_policy(self, message: PolicyMessage) -> None:
        try:
            taken = self._source.take_policy(message)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        if taken:
            self._policy_changed()

    def _policy_changed(self) -> None:
        """The new policy is in force from the next answer on."""
        source = self._source
        assert source.policy is not None and source.spec is not None
        controller = PolicyController(source.policy.fast(), source.spec, self.settings.plan_rows)
        controller.warm_up()
        if self._controller is not None:
            controller.take_over(self._controller)
        self._controller = controller
        self._agreement.start(controller.policy, source.spec)
        self.get_logger().info(f"policy {source.policy.kind!r} version {source.version}")
        self._answer_pending()
        if self._active:
            self._garbage.begin()

    def _on_controller_state(self, message: ControllerStateMessage) -> None:
        self._hot = self.settings.always_on or message.selected == self.settings.controller
        # The selection and the first time step of an episode travel on two topics: either may come first.
        self._answer_pending()

    def _on_time_step(self, message: TimeStepMessage) -> None:
        received_ns = now_ns()
        spec = self._source.spec
        if not self._active or spec is None:
            return
        try:
            time_step = time_step_from_message(message, spec)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        if time_step.step_type == StepType.LAST:
            self._pending = None
            return
        acts = self._agreement.allows(time_step)
        # Nobody else may be in time for the first action of an episode, which the robot waits for.
        allowed = acts or (time_step.step_type == StepType.FIRST and self._agreement.monitor.knows_state)
        self._pending = Pending.of(message, time_step, received_ns) if allowed else None
        self._answer_pending(fresh=True)
        self._garbage.pause()

    def _answer_pending(self, fresh: bool = False) -> None:
        """Answers the pending time step if nothing is missing for that. `fresh`: it has just come, so that its latency
        counts.
        """
        pending = self._pending
        if pending is None or not self._hot or not self._active or self._controller is None:
            return
        self._pending = None
        time_step = pending.time_step
        # The robot waits for the first action of an episode; the same answer has to last until the next can come.
        first = time_step.step_type == StepType.FIRST and self.settings.delay_steps < 0
        delay = self._delay_steps()
        begin = time.monotonic()
        try:
            answer = self._controller.answer(time_step, 0 if first else delay, 1 + delay if first else 1)
        except Exception as error:
            reason, text = ("invalid_plan", str(error)) if isinstance(error, PolicyFailed) else ("failed", repr(error))
            self._health.refuse(reason, f"plan for step {time_step.step} of episode {time_step.episode}: {text}")
            return
        solve_time = time.monotonic() - begin
        self._beyond_horizon = answer is None
        if answer is None:
            return
        assert self._source.spec is not None
        plan = answer.plan if self._agreement.monitor.acts else cut_plan(answer.plan, 0, 1 + delay)
        message = plan_to_message(
            plan,
            self._source.spec.interface_hash,
            self.get_clock().now().to_msg(),
            episode=time_step.episode,
            start_step=answer.start_step,
            answers_step=time_step.step,
            controller=self.settings.controller,
            producer=self._producer,
            task_version=time_step.required_task_version,
            solve_time=solve_time,
        )
        self._plan_publisher.publish(message)
        self._statistics.add(solve_time, 0, False)
        now = time.monotonic()
        if fresh and not self._lockstep and now - self._delay_measured >= DELAY_INTERVAL:
            self._delay_measured = now
            self._delay.add(pending.latency(now))

    def _delay_steps(self) -> int:
        if self.settings.delay_steps >= 0:
            return self.settings.delay_steps
        return 0 if self._lockstep else self._delay.steps

    def _report(self) -> None:
        """Figures for /diagnostics, which Health publishes."""
        source, health = self._source, self._health
        figures = self._statistics.figures()
        for name, figure in FIGURES.items():
            health.set(figure, figures[name])
        health.set("delay_steps", self._delay_steps())
        self._agreement.report()
        there = source.policy is not None
        health.set("policy_kind", source.policy.kind if source.policy is not None else "none")
        health.set("policy_version", source.version)
        health.set("policy_age_s", (now_ns() - source.received_ns) * 1e-9 if there else math.nan)
        if source.spec is None:
            health.warn("no robot_spec yet")
        elif not self._active:
            health.ok("not active")
        elif source.policy is None:
            (health.warn if self._hot else health.ok)("no policy yet")
        elif not self._hot:
            health.ok("idle: another controller is selected")
        elif not self._agreement.monitor.acts:
            health.ok(f"the planner acts: {self._agreement.monitor.reason}")
        elif self._beyond_horizon:
            health.warn(f"silent: beyond the {source.policy.horizon} steps of the policy")
        else:
            health.ok("serving")


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(PolicyNode)
