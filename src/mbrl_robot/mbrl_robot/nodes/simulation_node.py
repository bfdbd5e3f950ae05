# SPDX-License-Identifier: Apache-2.0
"""A simulated robot behind the interface that ros2_control shows, whatever simulates it."""

import array
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_core.config import parameter
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import Array
from mbrl_msgs.srv import ResetBackend, StepBackend
from mbrl_robot.command_delay import CommandDelay
from mbrl_robot.delayed_simulation import DelayedSimulation
from mbrl_robot.nodes.precedence import memory_parameter, priority_parameter, settle
from mbrl_robot.nodes.sensor_topics import SensorPublishers
from mbrl_robot.simulation_interface import START_STREAM, Simulation, SimulationError
from mbrl_ros import qos
from mbrl_ros.conversions import to_doubles
from mbrl_ros.health import Health
from mbrl_ros.parameters import declare, finish
from mbrl_ros.steady import now_ns, steady_timer
from mbrl_ros.workload import Workload

# Further behind the wall clock than this, time is skipped instead of caught up.
LONGEST_LAG_NS = 50_000_000


@dataclass(frozen=True)
class SimulationConfiguration:
    """Parameters of every node that simulates a robot."""

    robot_file: str = parameter("", "Robot file (YAML): names MJCF, joints and command topic", read_only=True)
    mode: str = parameter(
        "realtime", "realtime: steps with the steady clock; lockstep: steps when step_backend asks",
        choices=("realtime", "lockstep"), read_only=True,
    )  # fmt: skip
    scheduling_priority: int = priority_parameter("Realtime: ")
    lock_memory: bool = memory_parameter("Realtime: ")


class SimulationNode(Node, ABC):
    """Publishes joint_states, serves reset_backend, and in lockstep step_backend.

    realtime: joint states come every sample period of the simulation, whose time is locked to the steady clock; a
    command acts from its arrival on; without one for `command_timeout` the robot is stopped: no effort, no velocity, or
    the position that it is at.
    lockstep: simulated time passes in step_backend only, one control period at a time.
    In both, a command acts `simulation.command_delay` later than it comes; the time-out counts from when the last one
    acts. The stamps of joint states are the ROS time of the start plus simulated time in realtime, simulated time in
    lockstep: they never run backwards.
    """

    def __init__(self, name: str, kind: type[SimulationConfiguration]) -> None:
        super().__init__(name)
        configuration = declare(self, kind)
        finish(self)
        self._robot = load_robot(configuration.robot_file)
        self._realtime = configuration.mode == "realtime"
        self._configuration = configuration
        self._simulation = self._simulate(self._robot, configuration)
        self._simulation.reset(generator(0, 0, 0, START_STREAM))
        self._joint_names = [joint.name for joint in self._robot.joints]
        self._health = Health(self)
        self._joint_states = self.create_publisher(
            JointState, "joint_states", qos.JOINT_STATES, event_callbacks=qos.QUIET_PUBLISHER
        )
        self._sensors = SensorPublishers(self, self._robot.estimation.sensors)
        self.create_service(ResetBackend, "reset_backend", self._reset)
        self._diverged = False
        # Before any tick: the first line that a process logs takes tens of milliseconds.
        robot, step = self._robot.spec.name, self._simulation.timestep
        self.get_logger().info(f"robot {robot!r}: {configuration.mode}, time step {step:g} s")
        if self._realtime:
            self._start_realtime()
        else:
            self._stepped = DelayedSimulation(self._simulation, self._robot)
            self._stamp_ns = 0
            self._episode = 0
            self._step = 0
            self.create_service(StepBackend, "step_backend", self._step_backend)

    @abstractmethod
    def _simulate(self, robot: Robot, configuration: Any) -> Simulation:
        """Makes the simulation. Raises SpecError or FileNotFoundError, which end the node."""

    # --- realtime -------------------------------------------------------------------------------------------------

    def _start_realtime(self) -> None:
        self._interval_ns = round(self._simulation.sample_period * 1e9)
        self._commands = CommandDelay(round(self._robot.simulation.command_delay * 1e9))
        self._timeout_ns = round(self._robot.simulation.command_timeout * 1e9) + self._commands.delay_ns
        self._last_command_ns: int | None = None
        self._simulated_ns = 0
        self._next_sample_ns = self._interval_ns
        self._skipped_ns = 0
        self._clipped = 0
        self.create_subscription(
            Float64MultiArray,
            self._robot.command_topic,
            self._command,
            qos.COMMAND,
            event_callbacks=qos.QUIET_SUBSCRIPTION,
        )
        self._work = Workload("sample", self._simulation.sample_period)
        self._health.follow(self._work.figures)
        self._health.set("clipped_commands", 0)
        self._health.set("skipped_seconds", 0.0)
        configuration, processes = self._configuration, self._simulation.processes
        settle(self._health, configuration.scheduling_priority, configuration.lock_memory, processes=processes)
        timer = steady_timer(self, self._simulation.sample_period, self._tick)
        # The timer's own beginning: a sample is published as soon as it falls due, not some part of an interval later.
        self._origin_ns = now_ns() - timer.time_since_last_call()
        self._stamp_ns = self.get_clock().now().nanoseconds - (now_ns() - self._origin_ns)

    def _tick(self) -> None:
        with self._work.piece():
            self._integrate_until(now_ns())

    def _command(self, message: Float64MultiArray) -> None:
        arrival_ns = now_ns()
        topic = self._robot.command_topic
        command = np.array(message.data, dtype=np.float64)
        size = self._robot.spec.action.size
        if command.shape != (size,):
            self._health.refuse("wrong_length", f"{topic}: {len(command)} numbers, expected {size}")
            return
        if not np.isfinite(command).all():
            self._health.refuse("non_finite", f"{topic}: {command.tolist()}, expected finite numbers")
            return
        # Up to now the old command acted: the timing of a command does not depend on the time step.
        self._integrate_until(arrival_ns)
        self._commands.push(self._simulated_ns, command)
        if self._last_command_ns is None:
            self._health.ok()
        self._last_command_ns = arrival_ns

    def _integrate_until(self, time_ns: int) -> None:
        """Integrates to the steady time `time_ns`, and publishes the newest sample that fell due on the way."""
        target_ns = time_ns - self._origin_ns
        lag_ns = target_ns - self._simulated_ns
        if lag_ns > LONGEST_LAG_NS:
            # Catching up would take the time that the next steps need: a process that was stopped would never recover.
            # Whole intervals only: samples fall due when the timer fires, and must go on doing so.
            skipped_ns = (lag_ns // self._interval_ns) * self._interval_ns
            self._skipped_ns += skipped_ns
            self._origin_ns += skipped_ns
            # Stamps stay with the clock: the sample is fresh, and the gap before it is there to be seen.
            self._stamp_ns += skipped_ns
            target_ns = time_ns - self._origin_ns
            self._health.set("skipped_seconds", self._skipped_ns / 1e9)
            self.get_logger().warning(f"fell {lag_ns / 1e6:.0f} ms behind the clock: skipped them")
        self._stop_when_silent(time_ns)
        try:
            self._pass_samples(target_ns)
            self._advance_to(target_ns)
        except SimulationError as error:
            self._divergence(error)

    def _pass_samples(self, target_ns: int) -> None:
        if target_ns < self._next_sample_ns:
            return
        newest_ns = target_ns - (target_ns - self._next_sample_ns) % self._interval_ns
        self._advance_to(newest_ns)
        self._next_sample_ns = newest_ns + self._interval_ns
        self._publish(self._stamp_ns + newest_ns)

    def _advance_to(self, target_ns: int) -> None:
        if not self._diverged:
            for command, duration_ns in self._commands.pieces(self._simulated_ns, target_ns):
                self._apply(command)
                self._simulation.advance_time(duration_ns * 1e-9)
        self._simulated_ns = max(self._simulated_ns, target_ns)

    def _apply(self, command: Array | None) -> None:
        if command is not None and self._simulation.set_command(command):
            self._clipped += 1
            self._health.set("clipped_commands", self._clipped)

    def _stop_when_silent(self, time_ns: int) -> None:
        if self._last_command_ns is None or time_ns - self._last_command_ns <= self._timeout_ns:
            return
        self._last_command_ns = None
        self._commands.clear()
        self._simulation.stop()
        silence = f"for {self._robot.simulation.command_timeout:g} s"
        now = "it holds its position" if self._robot.interface == "position" else "the command is zero"
        text = f"no command on {self._robot.command_topic} {silence}: {now} now"
        self._health.warn(text)
        self.get_logger().warning(text)

    # --- lockstep -------------------------------------------------------------------------------------------------

    def _step_backend(self, request: StepBackend.Request, response: StepBackend.Response) -> StepBackend.Response:
        response.step = self._step
        response.state = to_doubles(self._simulation.state)
        text = self._why_not(request)
        if text:
            self._health.refuse("step_backend", text)
            response.success, response.message = False, text
            return response
        response.command_time_ns = now_ns()
        try:
            state = self._stepped.step_command(np.array(request.command))
        except SimulationError as error:
            self._divergence(error)
            response.success, response.message = False, str(error)
            return response
        self._step += 1
        self._stamp_ns += round(self._robot.spec.period * 1e9)
        self._publish(self._stamp_ns)
        response.success, response.message = True, ""
        response.step, response.state = self._step, to_doubles(state)
        return response

    def _why_not(self, request: StepBackend.Request) -> str:
        if self._diverged:
            return "step_backend: the simulation has diverged, expected reset_backend first"
        if (request.episode, request.expected_step) != (self._episode, self._step):
            return (
                f"step_backend: step {request.expected_step} of episode {request.episode}, expected {self._step} of"
                f" episode {self._episode}"
            )
        size = self._robot.spec.action.size
        if len(request.command) != size or not np.isfinite(request.command).all():
            return f"step_backend: command {list(request.command)}, expected {size} finite numbers"
        return ""

    # --- both -----------------------------------------------------------------------------------------------------

    def _reset(self, request: ResetBackend.Request, response: ResetBackend.Response) -> ResetBackend.Response:
        if self._realtime:
            self._integrate_until(now_ns())
        start: np.random.Generator | Array
        start = generator(request.seed, request.episode, 0, START_STREAM)
        if request.state:
            start = np.array(request.state)
        try:
            state = (self._simulation if self._realtime else self._stepped).reset(start)
        except ValueError as error:
            self._health.refuse("reset_backend", f"reset_backend: {error}")
            response.success, response.message = False, f"reset_backend: {error}"
            return response
        except SimulationError as error:
            self._divergence(error)
            response.success, response.message = False, f"reset_backend: {error}"
            return response
        self._diverged = False
        self._health.ok()
        response.success, response.state = True, to_doubles(state)
        if self._realtime:
            self._last_command_ns = None
            response.stamp_ns = self._stamp_ns + self._next_sample_ns
        else:
            self._episode, self._step = request.episode, 0
            self._stamp_ns += round(self._robot.spec.period * 1e9)
            response.stamp_ns = self._stamp_ns
            self._publish(self._stamp_ns)
        return response

    def _divergence(self, error: SimulationError) -> None:
        # Not published any more: robot_node notices that the state has become stale, and ends the episode.
        self._diverged = True
        self._health.error(str(error))
        self.get_logger().error(str(error))

    def _publish(self, stamp_ns: int) -> None:
        if self._diverged:
            return
        state = self._simulation.state
        joints = len(self._joint_names)
        message = JointState(name=self._joint_names)
        message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        message.position = array.array("d", state[:joints].tobytes())
        message.velocity = array.array("d", state[joints : 2 * joints].tobytes())
        # Before the joint states, which are taken together with the newest of them.
        self._sensors.publish(self._simulation.readings(), stamp_ns)
        message.effort = array.array("d", self._simulation.effort.tobytes())
        self._joint_states.publish(message)
