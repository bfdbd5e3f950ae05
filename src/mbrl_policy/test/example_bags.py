# SPDX-License-Identifier: Apache-2.0
"""Small bags for tests, written message by message as the recorder does it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.serde import SerdeError

from mbrl_core.demonstrations import Outcome
from mbrl_core.messages import EndReason, Plan, StepType, TimeStep
from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec
from mbrl_msgs.msg import EpisodeLabel
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_policy.bag_writer import BagWriter
from mbrl_ros.bag_reading import read_stamped
from mbrl_ros.bag_types import make_typestore
from mbrl_ros.conversions import plan_to_message, spec_to_message, time_step_to_message

SPEC = RobotSpec(
    name="slide",
    period=0.02,
    state=StateSpec(("x", "v"), ("linear", "linear"), ("m", "m/s"), (-np.inf, -np.inf), (np.inf, np.inf)),
    action=ActionSpec(("x",), ("effort",), ("N",), (-1.0,), (1.0,), (2.0,), (np.inf,)),
)
QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1000,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=QosTime(0, 0),
    lifespan=QosTime(0, 0),
    liveliness=QosLiveliness.SYSTEM_DEFAULT,
    liveliness_lease_duration=QosTime(0, 0),
    avoid_ros_namespace_conventions=False,
)
TYPES = make_typestore()
PERIOD_NS = 20_000_000
START_NS = 1_700_000_000_000_000_000


def episode(number: int, steps: int) -> list[TimeStep]:
    """A whole episode of `steps` transitions with random numbers; equal arguments give equal numbers."""
    random = np.random.default_rng([number, steps])
    return [
        TimeStep(
            episode=number,
            step=step,
            step_type=StepType.FIRST if step == 0 else StepType.LAST if step == steps else StepType.MID,
            end_reason=EndReason.TIME_LIMIT if step == steps else EndReason.NOT_ENDED,
            state=random.normal(size=2),
            action=random.uniform(-1.0, 1.0, 1) if step else np.full(1, np.nan),
            action_valid=step > 0,
            controller="planner" if step else "",
            committed_actions=np.zeros((0, 1)),
        )
        for step in range(steps + 1)
    ]


class Bag:
    """A bag that is written one method call after the other; time goes on by a period with each message."""

    def __init__(
        self,
        path: Path,
        spec: RobotSpec = SPEC,
        labels: bool = True,
        namespace: str = "/fleet/one",
        start: int = START_NS,
    ) -> None:
        self.path = path
        self.namespace = namespace
        self._spec = spec
        self._writer = BagWriter(path)
        self._topics: dict[str, Connection] = {}
        self._time = start
        if labels:
            self._topic("episode_label", "EpisodeLabel")
        self._topic("time_step", "TimeStep")
        self.spec()

    def spec(self) -> "Bag":
        """The latched description of the robot."""
        self._write("robot_spec", "RobotSpec", spec_to_message(self._spec, Time()))
        return self

    def steps(self, steps: list[TimeStep], stamp: Time | None = None) -> "Bag":
        """Time steps, each followed by a plan of the planner."""
        for step in steps:
            message = time_step_to_message(step, self._spec.interface_hash, stamp or Time())
            self._write("time_step", "TimeStep", message)
            plan = PlanMessage(version=PlanMessage.VERSION, episode=step.episode, start_step=step.step, horizon=1)
            plan.actions, plan.predicted_return = [0.5], 7.0
            self._write("plan", "Plan", plan)
        self._writer.flush()
        return self

    def intend(
        self, episode: int, step: int, actions: np.ndarray, controller: str = "teleop", interface_hash: str = ""
    ) -> "Bag":
        """What a controller meant from `step` on [rows, m], which it answers."""
        plan = plan_to_message(
            Plan(actions), interface_hash or self._spec.interface_hash, Time(), episode=episode, start_step=step,
            answers_step=step, controller=controller,
        )  # fmt: skip
        self._write("intended_plan", "Plan", plan)
        return self

    def label(self, number: int, outcome: Outcome, discarded: bool = False, task: str = "", note: str = "") -> "Bag":
        """What a person says of an episode."""
        message = EpisodeLabel(version=EpisodeLabel.VERSION, episode=number, outcome=int(outcome))
        message.discarded, message.task, message.note = discarded, task, note
        self._write("episode_label", "EpisodeLabel", message)
        return self

    def close(self) -> "Bag":
        """Finishes it."""
        self._writer.close()
        return self

    def read(self, topic: str) -> Iterator[tuple[str, int, Any]]:
        """(topic, time, message) of one of its topics."""
        return read_stamped(self.path, (topic,))

    def _topic(self, topic: str, kind: str) -> Connection:
        name = f"{self.namespace}/{topic}"
        if name not in self._topics:
            self._topics[name] = self._writer.add_topic(name, f"mbrl_msgs/msg/{kind}", QOS)
        return self._topics[name]

    def _write(self, topic: str, kind: str, message: Any) -> None:
        self._time += PERIOD_NS
        self._writer.write(self._topic(topic, kind), self._time, on_the_wire(message, f"mbrl_msgs/msg/{kind}"))


def on_the_wire(message: Any, type_name: str) -> bytes:
    """A message's bytes; what rclpy serialises into a buffer may have a few of the buffer's left over at its end."""
    content = bytes(serialize_message(message))
    for left_over in (0, 4, 8):
        whole = content[: len(content) - left_over]
        with suppress(SerdeError):
            TYPES.deserialize_cdr(whole, type_name)
            return whole
    raise ValueError(f"{type_name}: {len(content)} bytes are more than the message takes")
