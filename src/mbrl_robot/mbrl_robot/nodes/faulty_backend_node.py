# SPDX-License-Identifier: Apache-2.0
"""A bad line between a backend and robot_node: loses, delays, doubles, reorders, spoils and freezes what passes.

    backend ── backend/joint_states ──▶ faulty_backend ── joint_states ──▶ robot_node
    backend ◀── backend/COMMANDS ────── faulty_backend ◀── COMMANDS ────── robot_node

The backend's topics are remapped to those below `backend/`; its services are not touched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_core.config import parameter
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import load_robot
from mbrl_robot.faults import Faults, FaultyLine, spoil_numbers
from mbrl_robot.nodes.precedence import memory_parameter, priority_parameter, settle
from mbrl_ros import qos
from mbrl_ros.health import Health
from mbrl_ros.parameters import declare, finish
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns, steady_timer
from mbrl_ros.workload import Workload

Message = TypeVar("Message")

BEHIND = "backend/{topic}"
REPORT_PERIOD = 0.5
FIELDS = ("position", "velocity")


@dataclass(frozen=True)
class FaultyBackendConfiguration:
    """Parameters of faulty_backend_node besides the faults of the two directions, `joint_states.*` and `commands.*`."""

    robot_file: str = parameter("", "Robot file (YAML): names the command topic", read_only=True)
    seed: int = parameter(0, "Keys what happens to which message", minimum=0, read_only=True)
    scheduling_priority: int = priority_parameter()
    lock_memory: bool = memory_parameter()


class _Direction(Generic[Message]):
    """One direction: a line, its publisher, and the timer that lets late messages out."""

    def __init__(self, node: Node, name: str, line: FaultyLine[Message], publisher: Publisher) -> None:
        self.name = name
        self.line = line
        self._publisher = publisher
        self.work = Workload(name)
        self._timer = steady_timer(node, 1.0, self._let_out)
        self._timer.cancel()
        line.faults = declare(node, Faults, prefix=name, on_change=self._change)

    def put(self, message: Message) -> None:
        """A message comes in; what is due goes out at once."""
        with self.work.piece():
            self.line.put(message, now_ns())
            self._let_out()

    def _let_out(self) -> None:
        self._timer.cancel()
        for message in self.line.take(now_ns()):
            self._publisher.publish(message)
        next_ns = self.line.next_ns
        if next_ns is not None:
            self._timer.timer_period_ns = max(next_ns - now_ns(), 0)
            self._timer.reset()

    def _change(self, faults: Faults) -> None:
        self.line.faults = faults


class FaultyBackendNode(Node):
    """Passes joint_states and commands on, with the faults that its parameters ask for, and unchanged without any."""

    def __init__(self) -> None:
        super().__init__("faulty_backend")
        configuration = declare(self, FaultyBackendConfiguration)
        topic = load_robot(configuration.robot_file).command_topic
        self._health = Health(self)
        states = self._direction(
            configuration.seed,
            "joint_states",
            JointState,
            "joint_states",
            qos.JOINT_STATES,
            _spoil_state,
            _freeze_state,
        )
        commands = self._direction(
            configuration.seed, "commands", Float64MultiArray, behind(topic), qos.COMMAND, _spoil_command,
            lambda old, new: old,
        )  # fmt: skip
        finish(self)
        self._directions: tuple[_Direction[Any], ...] = (states, commands)
        for direction in self._directions:
            self._health.follow(direction.work.figures)
        self._listen(JointState, behind("joint_states"), states, qos.JOINT_STATES)
        self._listen(Float64MultiArray, topic, commands, qos.COMMAND)
        steady_timer(self, REPORT_PERIOD, self._report)
        self.get_logger().info(f"between {behind('joint_states')} and joint_states, {topic} and {behind(topic)}")
        # It stands in the control loop: what it does not spoil on purpose must not come late.
        settle(self._health, configuration.scheduling_priority, configuration.lock_memory, only_used=True)

    def _direction(
        self,
        seed: int,
        name: str,
        message_type: type[Message],
        topic: str,
        profile: Any,
        spoil: Callable[[Message, str, np.random.Generator], Message],
        freeze: Callable[[Message, Message], Message],
    ) -> _Direction[Message]:
        publisher = self.create_publisher(message_type, topic, profile, event_callbacks=qos.QUIET_PUBLISHER)
        return _Direction(self, name, FaultyLine(generator(seed, 0, 0, name), spoil, freeze), publisher)

    def _listen(self, message_type: type, topic: str, direction: _Direction[Any], profile: Any) -> None:
        self.create_subscription(
            message_type, topic, direction.put, profile, event_callbacks=qos.QUIET_SUBSCRIPTION
        )  # fmt: skip

    def _report(self) -> None:
        faulty = False
        for direction in self._directions:
            faulty = faulty or direction.line.faults != Faults()
            for kind, count in direction.line.counts.items():
                self._health.set(f"{direction.name}/{kind}", count)
        if faulty:
            self._health.warn("faults are on, as the parameters ask")
        else:
            self._health.ok("passes everything on")


def behind(topic: str) -> str:
    """The name on the backend's side of a topic; an absolute one stays absolute."""
    return "/" + BEHIND.format(topic=topic[1:]) if topic.startswith("/") else BEHIND.format(topic=topic)


def _spoil_state(message: JointState, kind: str, random: np.random.Generator) -> JointState:
    spoiled = _copy(message)
    field = str(random.choice(FIELDS))
    setattr(spoiled, field, spoil_numbers(list(getattr(message, field)), kind, random))
    return spoiled


def _freeze_state(old: JointState, new: JointState) -> JointState:
    frozen = _copy(old)
    frozen.header = new.header
    return frozen


def _copy(message: JointState) -> JointState:
    return JointState(
        header=message.header,
        name=message.name,
        position=message.position,
        velocity=message.velocity,
        effort=message.effort,
    )


def _spoil_command(message: Float64MultiArray, kind: str, random: np.random.Generator) -> Float64MultiArray:
    return Float64MultiArray(layout=message.layout, data=spoil_numbers(list(message.data), kind, random))


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(FaultyBackendNode)
