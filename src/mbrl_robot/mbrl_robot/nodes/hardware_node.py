# SPDX-License-Identifier: Apache-2.0
"""Beside a real robot: says whether it may be commanded, and serves reset_backend by a person, a homing motion, or not.

It never commands. What it wants done on the way to the start it tells robot_node, which sends it through its guard.
"""

from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from mbrl_core.config import parameter
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array, SpecError
from mbrl_msgs.srv import ResetBackend
from mbrl_robot.hardware_reset import Criteria, HardwareReset
from mbrl_robot.nodes.hardware_observer import HardwareObserver
from mbrl_robot.readiness import AT_START, PASSED, Checks, Demands, failures
from mbrl_ros import qos
from mbrl_ros.conversions import to_doubles
from mbrl_ros.health import Health
from mbrl_ros.parameters import declare, finish
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns, steady_timer

CHECK_PERIOD = 0.2  # s
COMMANDS = "/commands"


@dataclass(frozen=True)
class HardwareConfiguration:
    """Parameters of hardware_node."""

    robot_file: str = parameter("", "Robot file (YAML)", read_only=True)
    reset: str = parameter(
        "confirm",
        "Who brings the robot to its start: a person who confirms it, a slow homing motion, or nobody",
        choices=("confirm", "homing", "none"), read_only=True,
    )  # fmt: skip
    controller: str = parameter(
        "", "Node that takes the commands; empty: the first part of the robot file's command topic", read_only=True
    )
    controller_manager: str = parameter(
        "controller_manager", "Node whose diagnostics say whether the controller is active; empty: nobody is asked",
        read_only=True,
    )  # fmt: skip
    joint_states_timeout: float = parameter(
        0.2, "Largest age of the newest joint states, seconds", minimum=0.001, read_only=True
    )
    rest_linear: float = parameter(0.05, "A joint is at rest below this speed, m/s", minimum=0.0, read_only=True)
    rest_angular: float = parameter(0.1, "A joint is at rest below this speed, rad/s", minimum=0.0, read_only=True)
    confirm_timeout: float = parameter(600.0, "Longest wait for a person, seconds", minimum=0.1, read_only=True)
    settle_timeout: float = parameter(30.0, "Longest wait for the robot to rest, seconds", minimum=0.1, read_only=True)
    homing_timeout: float = parameter(60.0, "Longest homing motion, seconds", minimum=0.1, read_only=True)
    homing_tolerance: float = parameter(
        0.03, "Largest distance of a driven joint from its start after homing, m or rad", minimum=0.0, read_only=True
    )
    homing_speeds: tuple[float, ...] = parameter(
        (), "Largest speed of each action's joint while homing, m/s or rad/s; empty: 0.1 and 0.3", read_only=True
    )
    homing_gains: tuple[float, ...] = parameter(
        (), "Effort interface: normalised action per m/s or rad/s of each action's joint while homing; empty: inverse"
        " dynamics of the robot file's MJCF", read_only=True,
    )  # fmt: skip


class HardwareNode(Node):
    """Publishes `readiness` five times a second; serves reset_backend and confirm_reset; publishes `homing` meanwhile.

    `readiness` is OK when every check passes, WARN when only those fail that are asked for at a start, else ERROR; its
    values are the checks by name.
    """

    def __init__(self) -> None:
        super().__init__("hardware")
        configuration = declare(self, HardwareConfiguration)
        finish(self)
        self._robot = load_robot(configuration.robot_file)
        self._health = Health(self)
        controller = configuration.controller or _controller_of(self._robot.command_topic)
        self._checks = Checks(
            self._robot,
            Demands(
                controller=controller,
                manager=configuration.controller_manager,
                states_timeout=configuration.joint_states_timeout,
                rest_linear=configuration.rest_linear,
                rest_angular=configuration.rest_angular,
            ),
        )
        self._observer = HardwareObserver(self, self._robot, controller, configuration.controller_manager)
        self._results: dict[str, str] = {}
        self._said: list[str] | None = None
        self._readiness = self.create_publisher(
            DiagnosticStatus, "readiness", qos.LATCHED, event_callbacks=qos.QUIET_PUBLISHER
        )
        self._homing = self.create_publisher(
            Float64MultiArray, "homing", qos.COMMAND, event_callbacks=qos.QUIET_PUBLISHER
        )
        self._reset = HardwareReset(self._robot, _criteria(configuration))
        self.create_service(ResetBackend, "reset_backend", self._take_reset)
        self.create_service(Trigger, "confirm_reset", self._take_confirmation)
        steady_timer(self, CHECK_PERIOD, self._check)
        self._homing_timer = steady_timer(self, self._robot.spec.period, self._move)
        self._homing_timer.cancel()
        self._health.set("reset", configuration.reset)

    def _check(self) -> None:
        self._results = self._checks.results(self._observer.look())
        missing = failures(self._results)
        level = DiagnosticStatus.OK
        if missing:
            level = DiagnosticStatus.ERROR if failures(self._results, AT_START) else DiagnosticStatus.WARN
        self._readiness.publish(
            DiagnosticStatus(
                level=level,
                name=self.get_fully_qualified_name(),
                message="; ".join(missing) or "ready",
                hardware_id=self._robot.spec.name,
                values=[KeyValue(key=name, value=text) for name, text in self._results.items()],
            )
        )
        for name, text in self._results.items():
            self._health.set(f"check/{name}", text)
        self._health.set("reset_state", self._reset.message)
        if level == DiagnosticStatus.ERROR:
            self._health.error(f"not ready: {'; '.join(missing)}")
        else:
            self._health.ok()
        self._say(failures(self._results, AT_START))

    def _say(self, missing: list[str]) -> None:
        """In the log, when it has changed. Ages and speeds change all the time."""
        kinds = [name for name, text in self._results.items() if text != PASSED and name not in AT_START]
        if kinds == self._said:
            return
        self._said = kinds
        if missing:
            self.get_logger().warning("not ready:\n" + "\n".join(f"  - {text}" for text in missing))
        else:
            self.get_logger().info("all checks have passed")

    def _take_reset(self, request: ResetBackend.Request, response: ResetBackend.Response) -> ResetBackend.Response:
        state = self._observer.state()
        key = (request.episode, request.seed, tuple(request.state))
        outcome = self._reset.ask(key, np.array(request.state), state, failures(self._results), now_ns())
        response.success, response.pending = outcome.success, outcome.pending
        response.message = outcome.message
        if outcome.success and state is not None:
            response.state = to_doubles(state)
            response.stamp_ns = self._observer.stamp_ns
        if outcome.failed:
            self._health.refuse("reset_backend", f"reset_backend: {outcome.message}")
        if self._reset.is_homing and self._homing_timer.is_canceled():
            self._homing_timer.reset()
        return response

    def _take_confirmation(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._observer.state()
        response.success, response.message = self._reset.confirm(
            failures(self._checks.results(self._observer.look())), now_ns()
        )
        if not response.success:
            self._health.refuse("confirm_reset", f"confirm_reset: {response.message}")
        return response

    def _move(self) -> None:
        command: Array | None = self._reset.homing_command(self._observer.state(), now_ns())
        if command is None:
            self._homing_timer.cancel()
            return
        self._homing.publish(Float64MultiArray(data=to_doubles(command)))


def _controller_of(topic: str) -> str:
    if not topic.endswith(COMMANDS):
        raise SpecError(
            f"parameter 'controller': needed since control.command_topic {topic!r} is not CONTROLLER/commands"
        )
    return topic.removesuffix(COMMANDS).rpartition("/")[2]


def _criteria(configuration: HardwareConfiguration) -> Criteria:
    return Criteria(
        kind=configuration.reset,
        confirm_timeout=configuration.confirm_timeout,
        settle_timeout=configuration.settle_timeout,
        homing_timeout=configuration.homing_timeout,
        tolerance=configuration.homing_tolerance,
        speeds=tuple(configuration.homing_speeds),
        gains=tuple(configuration.homing_gains),
    )


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(HardwareNode)
