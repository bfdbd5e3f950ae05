# SPDX-License-Identifier: Apache-2.0
"""Between ROS messages and the plain types of mbrl_core. What comes in is checked here, once."""

import array
import dataclasses
import math
import zlib
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time

from mbrl_core.config import ConfigurationError
from mbrl_core.messages import EndReason, Plan, StepType, TimeStep
from mbrl_core.observed_task import task_on
from mbrl_core.specs import ActionSpec, Array, RobotSpec, SpecError, StateSpec
from mbrl_core.tasks import Task, make_task
from mbrl_msgs.msg import Model as ModelMessage
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_msgs.msg import Task as TaskMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage


class MessageError(ValueError):
    """A message is refused. `reason` is a short kind for counting, the text says what came and what was expected."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def to_doubles(values: Any) -> array.array:
    """float64[] field of any array, flattened row major. Assigning a numpy array itself is a hundred times slower."""
    return array.array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def from_doubles(values: Any, topic: str, field: str, shape: tuple[int, ...]) -> Array:
    """Array of `shape` from a float64[] field. Raises MessageError when the length differs."""
    flat = np.array(values, dtype=np.float64)
    expected = math.prod(shape)
    if flat.size != expected:
        raise MessageError(
            "wrong_shape", f"{topic}: {field} has {flat.size} numbers, expected {expected} {list(shape)}"
        )
    return flat.reshape(shape)


def check_interface(topic: str, interface_hash: str, spec: RobotSpec) -> None:
    """Raises MessageError when a message is of another robot's interface."""
    if interface_hash != spec.interface_hash:
        raise MessageError(
            "other_interface",
            f"{topic}: interface {interface_hash[:12] or 'empty'!r}, expected {spec.interface_hash[:12]!r}"
            f" of robot {spec.name!r}",
        )


def check_layout(topic: str, version: int, expected: int) -> None:
    """Raises MessageError when a message has another layout version."""
    if version != expected:
        raise MessageError("other_layout", f"{topic}: layout version {version}, expected {expected}")


def checked_weights(message: ModelMessage | PolicyMessage, reason: str, source: str) -> bytes:
    """Weights of a message that fit its checksum. Raises MessageError of `reason` that names `source` when not."""
    weights = bytes(message.weights)
    checksum = zlib.crc32(weights)
    if checksum != message.crc32:
        raise MessageError(
            reason, f"{source}: {len(weights)} bytes with checksum {checksum:08x}, expected {message.crc32:08x}"
        )
    return weights


def spec_to_message(spec: RobotSpec, stamp: Time) -> RobotSpecMessage:
    """RobotSpec message of a spec."""
    message = RobotSpecMessage(
        version=RobotSpecMessage.VERSION,
        name=spec.name,
        interface_hash=spec.interface_hash,
        description_hash=spec.description_hash,
        period=spec.period,
        delay=spec.delay,
        max_open_loop_steps=spec.max_open_loop_steps,
        state_names=list(spec.state.names),
        state_kinds=list(spec.state.kinds),
        state_units=list(spec.state.units),
        state_lower=list(spec.state.lower),
        state_upper=list(spec.state.upper),
        action_names=list(spec.action.names),
        action_interfaces=list(spec.action.interfaces),
        action_units=list(spec.action.units),
        action_lower=list(spec.action.lower),
        action_upper=list(spec.action.upper),
        action_scale=list(spec.action.scale),
        action_slew=list(spec.action.slew),
    )
    message.header.stamp = stamp
    return message


def spec_from_message(message: RobotSpecMessage) -> RobotSpec:
    """Spec of a RobotSpec message. Raises MessageError when it contradicts itself or its hash."""
    check_layout("robot_spec", message.version, RobotSpecMessage.VERSION)
    try:
        spec = RobotSpec(
            name=message.name,
            period=message.period,
            state=StateSpec(
                tuple(message.state_names), tuple(message.state_kinds), tuple(message.state_units),
                tuple(message.state_lower), tuple(message.state_upper),
            ),
            action=ActionSpec(
                tuple(message.action_names), tuple(message.action_interfaces), tuple(message.action_units),
                tuple(message.action_lower), tuple(message.action_upper),
                tuple(message.action_scale), tuple(message.action_slew),
            ),
            max_open_loop_steps=message.max_open_loop_steps,
            delay=message.delay,
        )  # fmt: skip
    except SpecError as error:
        raise MessageError("invalid_spec", f"robot_spec: {error}") from None
    check_interface("robot_spec", message.interface_hash, spec)
    return spec


def task_to_message(task: Task, interface_hash: str, stamp: Time) -> TaskMessage:
    """Task message of a task."""
    message = TaskMessage(
        version_of_layout=TaskMessage.VERSION,
        interface_hash=interface_hash,
        kind=task.kind,
        version=task.version,
        goal=list(task.goal),
        parameter_names=list(task.parameters),
        parameter_values=list(task.parameters.values()),
        weight_names=list(task.weights),
        weight_values=list(task.weights.values()),
        obstacles=list(task.obstacles),
        content=array.array("B", task.content),
    )
    message.header.stamp = stamp
    return message


def task_from_message(message: TaskMessage, spec: RobotSpec) -> Task:
    """Task of a Task message. Raises MessageError."""
    check_layout("task", message.version_of_layout, TaskMessage.VERSION)
    check_interface("task", message.interface_hash, spec)
    for role in ("parameter", "weight"):
        names, values = getattr(message, f"{role}_names"), getattr(message, f"{role}_values")
        if len(names) != len(values):
            raise MessageError("wrong_shape", f"task: {len(values)} {role} values, expected {len(names)}, one a name")
    try:
        task = make_task(
            message.kind,
            tuple(message.goal),
            dict(zip(message.parameter_names, message.parameter_values, strict=True)),
            dict(zip(message.weight_names, message.weight_values, strict=True)),
            message.version,
            tuple(message.obstacles),
            bytes(message.content),
        )
        task = task_on(task, spec)
        task.check_reward()
    except ConfigurationError as error:
        raise MessageError("invalid_task", f"task: {error}") from None
    return task


def time_step_to_message(time_step: TimeStep, interface_hash: str, stamp: Time) -> TimeStepMessage:
    """TimeStep message of a time step; robot_node fills in the steady time stamps."""
    message = TimeStepMessage(
        version=TimeStepMessage.VERSION,
        interface_hash=interface_hash,
        episode=time_step.episode,
        step=time_step.step,
        step_type=int(time_step.step_type),
        end_reason=int(time_step.end_reason),
        state=to_doubles(time_step.state),
        action=to_doubles(time_step.action),
        action_valid=bool(time_step.action_valid),
        controller=time_step.controller,
        fallback=bool(time_step.fallback),
        row_age=time_step.row_age,
        committed_actions=to_doubles(time_step.committed_actions),
        sent_actions=to_doubles(time_step.sent_actions),
        required_model_version=time_step.required_model_version,
        required_task_version=time_step.required_task_version,
    )
    message.header.stamp = stamp
    return message


def time_step_from_message(message: TimeStepMessage, spec: RobotSpec) -> TimeStep:
    """Time step of a TimeStep message. Raises MessageError on another interface, wrong shape or non-finite state."""
    check_layout("time_step", message.version, TimeStepMessage.VERSION)
    check_interface("time_step", message.interface_hash, spec)
    state = from_doubles(message.state, "time_step", "state", (spec.state.size,))
    if not np.isfinite(state).all():
        raise MessageError(
            "non_finite", f"time_step: state of step {message.step} is {state.tolist()}, expected finite"
        )
    action = from_doubles(message.action, "time_step", "action", (spec.action.size,))
    if message.step_type != TimeStepMessage.FIRST and not np.isfinite(action).all():
        raise MessageError(
            "non_finite", f"time_step: action of step {message.step} is {action.tolist()}, expected finite"
        )
    committed = _rows(message.committed_actions, "committed_actions", spec)
    sent = _rows(message.sent_actions, "sent_actions", spec)
    try:
        step_type, end_reason = StepType(message.step_type), EndReason(message.end_reason)
    except ValueError as error:
        raise MessageError("invalid", f"time_step: {error}") from None
    return TimeStep(
        episode=message.episode,
        step=message.step,
        step_type=step_type,
        state=state,
        action=action,
        action_valid=message.action_valid,
        end_reason=end_reason,
        controller=message.controller,
        fallback=message.fallback,
        row_age=message.row_age,
        committed_actions=committed,
        sent_actions=sent,
        required_model_version=message.required_model_version,
        required_task_version=message.required_task_version,
    )


def _rows(values: Any, field: str, spec: RobotSpec) -> Array:
    """Actions [n, action_size] of a field of a time step. Raises MessageError."""
    flat = np.array(values, dtype=np.float64)
    if flat.size % spec.action.size:
        raise MessageError(
            "wrong_shape", f"time_step: {field} has {flat.size} numbers, expected a multiple of {spec.action.size}"
        )
    return flat.reshape(-1, spec.action.size)


def plan_to_message(plan: Plan, interface_hash: str, stamp: Time, **fields: Any) -> PlanMessage:
    """Plan message of a plan; `fields` are those that only the node knows (episode, start_step, controller, ...)."""
    message = PlanMessage(
        version=PlanMessage.VERSION,
        interface_hash=interface_hash,
        horizon=len(plan.actions),
        actions=to_doubles(plan.actions),
        predicted_return=float(plan.predicted_return),
        iterations=plan.iterations,
        deadline_missed=plan.deadline_missed,
        **fields,
    )
    for name in ("predicted_states", "predicted_std", "gains"):
        values = getattr(plan, name)
        if values is not None:
            setattr(message, name, to_doubles(values))
    message.header.stamp = stamp
    return message


def plan_from_message(message: PlanMessage, spec: RobotSpec) -> Plan:
    """Plan of a Plan message. Raises MessageError on another interface, a wrong shape or a non-finite number."""
    check_layout("plan", message.version, PlanMessage.VERSION)
    check_interface("plan", message.interface_hash, spec)
    rows, states, actions = message.horizon, spec.state.size, spec.action.size
    if rows < 1:
        raise MessageError("wrong_shape", f"plan: horizon {rows} from {message.controller!r}, expected at least 1")
    shapes = {
        "actions": (rows, actions),
        "predicted_states": (rows + 1, states),
        "predicted_std": (rows + 1, states),
        "gains": (rows, actions, states),
    }
    arrays: dict[str, Array] = {}
    for name, shape in shapes.items():
        values = getattr(message, name)
        if name != "actions" and len(values) == 0:
            continue
        arrays[name] = from_doubles(values, "plan", f"{name} from {message.controller!r}", shape)
        if not np.isfinite(arrays[name]).all():
            raise MessageError("non_finite", f"plan: {name} from {message.controller!r} has non-finite numbers")
    if "gains" in arrays and "predicted_states" not in arrays:
        raise MessageError("wrong_shape", f"plan: gains from {message.controller!r} without predicted_states")
    return Plan(
        **arrays,
        predicted_return=message.predicted_return,
        iterations=message.iterations,
        deadline_missed=message.deadline_missed,
    )


def with_version(task: Task, version: int) -> Task:
    """The same task with another version."""
    return dataclasses.replace(task, version=version)
