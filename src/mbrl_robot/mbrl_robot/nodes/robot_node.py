# SPDX-License-Identifier: Apache-2.0
"""The control clock: samples the state, executes plans, owns the episodes."""

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger

from mbrl_core.messages import EndReason, TimeStep
from mbrl_core.robot_file import Robot, load_robot
from mbrl_msgs.msg import ControllerState
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_msgs.srv import EndEpisode, SelectController
from mbrl_robot.control import Control, Decision
from mbrl_robot.dry_run import TOPIC as DRY_RUN_TOPIC
from mbrl_robot.dry_run import DryRun
from mbrl_robot.episode import Episode, EpisodeRequest, Interval
from mbrl_robot.executor import NOBODY, SAFE, AddressedPlan, PlanRefused
from mbrl_robot.nodes.clock import ControlClock
from mbrl_robot.nodes.configuration import RobotConfiguration
from mbrl_robot.nodes.homing_port import HomingPort
from mbrl_robot.nodes.lockstep_clock import LockstepClock
from mbrl_robot.nodes.precedence import settle
from mbrl_robot.nodes.readiness_gate import NOT_YET, ReadinessGate
from mbrl_robot.nodes.realtime_clock import RealtimeClock
from mbrl_robot.nodes.simulated_clock import SimulatedClock
from mbrl_robot.nodes.start_sequence import StartSequence
from mbrl_robot.safe_action import rest_command
from mbrl_robot.tick_statistics import TickStatistics
from mbrl_ros import qos
from mbrl_ros.conversions import MessageError, plan_from_message, spec_to_message, time_step_to_message, to_doubles
from mbrl_ros.health import Health
from mbrl_ros.parameters import declare, finish
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns, steady_timer

CLOCKS: dict[str, type[RealtimeClock] | type[LockstepClock]] = {
    "realtime": RealtimeClock,
    "lockstep": LockstepClock,
    "simulated": SimulatedClock,
}
END_REASONS = (EndReason.TERMINATED, EndReason.ABORTED)
LAST_WORDS = Duration(seconds=0.5)
REPORT_PERIOD = 1.0


class RobotNode(Node):
    """Wires topics and services to the control clock of the mode; the clock calls back what is public here."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.configuration = declare(self, RobotConfiguration)
        finish(self)
        self.robot: Robot = load_robot(self.configuration.robot_file)
        self.spec = self.robot.spec
        self.interface_hash = self.spec.interface_hash
        self.health = Health(self)
        self.control = Control(self.robot)
        self.statistics = TickStatistics(self.spec.period)
        self.episode: Episode | None = None
        self.episode_number = 0
        self._active = (SAFE, "no episode is running")
        self.time_steps = self.create_publisher(
            TimeStepMessage, "time_step", qos.TIME_STEP_RECORD, event_callbacks=qos.QUIET_PUBLISHER
        )
        self.dry_run = DryRun(self.spec.action) if self.configuration.dry_run else None
        command_topic = self.robot.command_topic if self.dry_run is None else DRY_RUN_TOPIC
        self._commands = self.create_publisher(
            Float64MultiArray, command_topic, qos.COMMAND, event_callbacks=qos.QUIET_PUBLISHER
        )
        self._controller_states = self.create_publisher(
            ControllerState, "controller_state", qos.LATCHED, event_callbacks=qos.QUIET_PUBLISHER
        )
        self._specs = self.create_publisher(
            RobotSpecMessage, "robot_spec", qos.LATCHED, event_callbacks=qos.QUIET_PUBLISHER
        )
        self._specs.publish(spec_to_message(self.spec, self.get_clock().now().to_msg()))
        self.gate = ReadinessGate(self, self.configuration.require_ready)
        self.homing = HomingPort(self, self.configuration.require_ready)
        if not self.gate.is_open:
            self._active = (NOBODY, NOT_YET)
        self.publish_controller_state()
        self.plans = self.create_subscription(
            PlanMessage, "plan", self._take_plan, qos.PLAN_FROM_ALL, event_callbacks=qos.QUIET_SUBSCRIPTION
        )
        self.create_service(SelectController, "select_controller", self._select_controller)
        self.create_service(EndEpisode, "end_episode", self._end_episode)
        self.create_service(Trigger, "reset_emergency_stop", self._reset_emergency_stop)
        self.clock: ControlClock = CLOCKS[self.configuration.mode](self)
        self.starts = StartSequence(self)
        steady_timer(self, REPORT_PERIOD, self._report)
        # A volatile publisher does not match a transient local subscription and has to stop the robot all the same.
        volatile = QoSProfile(depth=10, durability=DurabilityPolicy.VOLATILE)
        for profile in (qos.LATCHED, volatile):
            self.create_subscription(Bool, "emergency_stop", self._emergency_stop, profile)

    def destroy_node(self) -> None:
        """Sends zero, or the present position, without slew limit since nobody will send anything after it; says so."""
        last = rest_command(self.robot, self.clock.state, self.control.guard.last)
        if self.configuration.mode != "lockstep" and self.gate.is_open and last is not None:
            self._commands.publish(Float64MultiArray(data=to_doubles(last)))
            self._commands.wait_for_all_acked(LAST_WORDS)
        self.set_active(NOBODY, "robot_node has ended")
        self._controller_states.wait_for_all_acked(LAST_WORDS)
        super().destroy_node()

    # --- for the clocks and the start sequence --------------------------------------------------------------------

    def begin_episode(self, request: EpisodeRequest, controller: str) -> Episode:
        """Makes the next episode the running one; FIRST is the clock's part."""
        self.episode_number += 1
        self.control.executor.begin_episode(self.episode_number)
        if controller:
            self.control.executor.select(controller)
            # A controller plans only when it is selected, and has to hear of it before its first plan serves.
            self.publish_controller_state()
        self.statistics.restart()
        self.episode = Episode(self.episode_number, request, self.spec.action.size)
        return self.episode

    def finish_episode(self) -> None:
        """LAST has been published."""
        self.episode = None
        reason = "the emergency stop is latched" if self.control.guard.emergency_stop else "no episode is running"
        self.set_active(SAFE, reason)
        self.starts.episode_ended()

    def send(self, decision: Decision) -> int:
        """Sends a command, if any may and can be sent; returns the steady time, nanoseconds."""
        time_ns = now_ns()
        if self.gate.is_open and np.isfinite(decision.command).all():
            self._commands.publish(Float64MultiArray(data=to_doubles(decision.command)))
            if self.dry_run is not None:
                self.dry_run.add(decision.command)
        return time_ns

    def publish_time_step(
        self, time_step: TimeStep, sample_time_ns: int, stamp_ns: int, interval: Interval | None
    ) -> None:
        """Publishes a time step with its steady time stamps."""
        message = time_step_to_message(time_step, self.interface_hash, Time(nanoseconds=stamp_ns).to_msg())
        message.sample_time_ns = sample_time_ns
        message.command_time_ns = interval.command_time_ns if interval is not None else 0
        message.publish_time_ns = now_ns()
        self.time_steps.publish(message)

    def note_decision(self, decision: Decision) -> None:
        """Keeps count of who serves, and publishes a change."""
        self.statistics.served(decision.fallback, decision.age)
        if self.control.guard.emergency_stop:
            reason = "the emergency stop is latched"
        elif decision.fallback:
            executor, step = self.control.executor, self.episode.step if self.episode is not None else 0
            uncertain = executor.is_uncertain(executor.selected, step)
            reason = f"{'too uncertain a plan' if uncertain else 'no valid row'} from {executor.selected!r}"
        else:
            reason = "selected"
        self.set_active(decision.controller, reason)

    def set_active(self, controller: str, reason: str) -> None:
        """Publishes who serves and why when it has changed."""
        if (controller, reason) != self._active:
            self._active = (controller, reason)
            self.publish_controller_state()

    def publish_controller_state(self) -> None:
        """Publishes who is selected and who serves (latched)."""
        message = ControllerState(
            version=ControllerState.VERSION,
            selected=self.control.executor.selected,
            active=self._active[0],
            chain=list(self.control.executor.chain),
            reason=self._active[1],
            emergency_stop=self.control.guard.emergency_stop,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._controller_states.publish(message)

    def _report(self) -> None:
        self.health.set("mode", self.configuration.mode)
        self.health.set("episode", self.episode_number)
        self.health.set("active_controller", self._active[0])
        self.health.set("uncertain_plans", self.control.executor.uncertain_plans)
        for kind, count in self.control.guard.held_back.items():
            self.health.set(f"held_back/{kind}", count)
        for name, value in self.statistics.figures().items():
            self.health.set(name, value)
        if self.dry_run is not None and (line := self.dry_run.line(self.control.guard.held_back, self._active[0])):
            self.get_logger().info(line)

    # --- topics and services --------------------------------------------------------------------------------------

    def _take_plan(self, message: PlanMessage) -> None:
        episode = self.episode
        if episode is None:
            # The last answer of an episode often comes just after its end.
            if message.episode != self.episode_number:
                self.health.refuse("plan/other_episode", f"plan: episode {message.episode}, and no episode is running")
            return
        try:
            plan = AddressedPlan(
                plan_from_message(message, self.spec),
                message.controller,
                message.episode,
                message.start_step,
                message.answers_step,
            )
            self.control.executor.accept(plan, episode.step, self.clock.next_step)
        except (MessageError, PlanRefused) as error:
            self.health.refuse(f"plan/{error.reason}", str(error))
            return
        self.clock.plan_taken()

    def _select_controller(
        self, request: SelectController.Request, response: SelectController.Response
    ) -> SelectController.Response:
        try:
            self.control.executor.select(request.controller)
        except ValueError as error:
            self.health.refuse("select_controller", f"select_controller: {error}")
            response.message = f"select_controller: {error}"
            return response
        self.publish_controller_state()
        self.clock.plan_taken()
        response.success = True
        return response

    def _end_episode(self, request: EndEpisode.Request, response: EndEpisode.Response) -> EndEpisode.Response:
        if self.episode is None or request.episode != self.episode.number:
            running = "none" if self.episode is None else str(self.episode.number)
            response.message = f"end_episode: episode {request.episode}, expected the running one: {running}"
        elif request.end_reason not in END_REASONS:
            expected = " or ".join(f"{reason.value} ({reason.name})" for reason in END_REASONS)
            response.message = f"end_episode: end_reason {request.end_reason}, expected {expected}"
        else:
            self.clock.request_end(EndReason(request.end_reason))
            response.success = True
            return response
        self.health.refuse("end_episode", response.message)
        return response

    def _emergency_stop(self, message: Bool) -> None:
        if not message.data or self.control.guard.emergency_stop:
            return
        self.control.guard.latch_emergency_stop()
        self.clock.emergency_stop()
        self.health.error("the emergency stop is latched")
        self.get_logger().error("emergency stop: safe action until reset_emergency_stop is called")
        self._active = (SAFE, "the emergency stop is latched")
        self.publish_controller_state()
        self.starts.fail("the emergency stop was latched")

    def _reset_emergency_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        response.message = "cleared" if self.control.guard.emergency_stop else "it was not latched"
        self.control.guard.reset_emergency_stop()
        self.health.ok()
        if self.episode is None:
            self._active = (SAFE, "no episode is running")
        self.publish_controller_state()
        return response


def _make_node() -> RobotNode:
    node = RobotNode()
    configuration = node.configuration
    node.get_logger().info(f"robot {node.spec.name!r}: {configuration.mode}, period {node.spec.period:g} s")
    # A tick that waits until a planner or learner has used up its time slice is late by more than a plan takes.
    paced = configuration.mode != "lockstep" or configuration.lockstep_pace > 0.0
    settle(node.health, configuration.scheduling_priority if paced else 0, configuration.lock_memory and paced)
    return node


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(_make_node)
