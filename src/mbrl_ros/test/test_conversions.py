# SPDX-License-Identifier: Apache-2.0
"""Messages come back as they went; damaged ones are refused with a reason."""

import array
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from mbrl_core.learned_reward import LearnedReward
from mbrl_core.messages import EndReason, Plan, StepType, TimeStep
from mbrl_core.reward_network import RewardLayout, encode_reward
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import TASKS, make_task
from mbrl_ros import conversions
from mbrl_ros.conversions import MessageError

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
SPEC = load_robot(ROBOTS / "cartpole.yaml").spec
OTHER = load_robot(ROBOTS / "pendulum.yaml").spec
STAMP = Time(sec=5, nanosec=6)


def a_time_step() -> TimeStep:
    return TimeStep(
        episode=3, step=7, step_type=StepType.LAST, state=np.array([0.1, -2.0, 3.0, 4e-9]), action=np.array([1.5]),
        action_valid=False, end_reason=EndReason.TIME_LIMIT, controller="planner", fallback=True, row_age=2,
        committed_actions=np.array([[0.5], [-0.25]]),
        sent_actions=np.array([[0.75], [0.5], [-0.25]]), required_model_version=9, required_task_version=4,
    )  # fmt: skip


def a_plan() -> Plan:
    random = np.random.default_rng(0)
    return Plan(
        actions=random.normal(size=(5, 1)), predicted_states=random.normal(size=(6, 4)),
        predicted_std=random.normal(size=(6, 4)) ** 2, gains=random.normal(size=(5, 1, 4)),
        predicted_return=12.5, iterations=3, deadline_missed=True,
    )  # fmt: skip


def assert_same(first: Any, second: Any) -> None:
    for field in dataclasses.fields(first):
        np.testing.assert_equal(getattr(first, field.name), getattr(second, field.name), field.name)


def test_spec_comes_back() -> None:
    message = conversions.spec_to_message(SPEC, STAMP)
    spec = conversions.spec_from_message(message)
    assert spec.interface_hash == SPEC.interface_hash
    assert (spec.state, spec.action, spec.period) == (SPEC.state, SPEC.action, SPEC.period)


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_task_comes_back(kind: str) -> None:
    specs = [load_robot(path).spec for path in sorted(ROBOTS.glob("*.yaml"))]
    # Four circles or three spheres.
    obstacles = (0.1, 0.2, 0.05, 0.3, 0.4, 0.1, -0.2, 0.3, 0.1, 0.2, 0.2, 0.3)
    task = make_task(kind, version=12, obstacles=obstacles if TASKS[kind].workspace_size else ())
    spec = next(item for item in specs if (item.state.size, item.action.size) == (task.state_size, task.action_size))
    assert conversions.task_from_message(conversions.task_to_message(task, spec.interface_hash, STAMP), spec) == task


def test_time_step_and_plan_come_back() -> None:
    step = a_time_step()
    message = conversions.time_step_to_message(step, SPEC.interface_hash, STAMP)
    assert_same(conversions.time_step_from_message(message, SPEC), step)
    plan_message = conversions.plan_to_message(a_plan(), SPEC.interface_hash, STAMP, episode=3, start_step=8)
    assert (plan_message.episode, plan_message.start_step, plan_message.horizon) == (3, 8, 5)
    assert_same(conversions.plan_from_message(plan_message, SPEC), a_plan())


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("interface_hash", OTHER.interface_hash, "other_interface"),
        ("interface_hash", "", "other_interface"),
        ("version", 99, "other_layout"),
        ("state", [0.0, 0.0, 0.0], "wrong_shape"),
        ("state", [0.0, 0.0, 0.0, float("nan")], "non_finite"),
        ("action", [], "wrong_shape"),
        ("action", [float("inf")], "non_finite"),
        ("step_type", 7, "invalid"),
    ],
)
def test_a_bad_time_step_is_refused(field: str, value: Any, reason: str) -> None:
    message = conversions.time_step_to_message(a_time_step(), SPEC.interface_hash, STAMP)
    setattr(message, field, value)
    with pytest.raises(MessageError, match="^time_step: ") as caught:
        conversions.time_step_from_message(message, SPEC)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("interface_hash", OTHER.interface_hash, "other_interface"),
        ("version", 0, "other_layout"),
        ("horizon", 0, "wrong_shape"),
        ("horizon", 4, "wrong_shape"),
        ("actions", [0.0] * 4 + [float("nan")], "non_finite"),
        ("gains", [0.0] * 7, "wrong_shape"),
        ("gains", [float("inf")] * 20, "non_finite"),
        ("predicted_states", [], "wrong_shape"),
    ],
)
def test_a_bad_plan_is_refused(field: str, value: Any, reason: str) -> None:
    message = conversions.plan_to_message(a_plan(), SPEC.interface_hash, STAMP, controller="planner")
    setattr(message, field, value)
    with pytest.raises(MessageError, match="^plan: ") as caught:
        conversions.plan_from_message(message, SPEC)
    assert caught.value.reason == reason


def test_a_bad_task_or_spec_is_refused() -> None:
    message = conversions.task_to_message(make_task("cartpole_tip"), SPEC.interface_hash, STAMP)
    message.kind = "fly"
    with pytest.raises(MessageError, match="unknown task 'fly'"):
        conversions.task_from_message(message, SPEC)
    spec_message = conversions.spec_to_message(SPEC, STAMP)
    spec_message.state_kinds = ["linear"]
    with pytest.raises(MessageError, match="state kinds: got 1 entries"):
        conversions.spec_from_message(spec_message)
    spec_message = conversions.spec_to_message(SPEC, STAMP)
    spec_message.period = 0.05
    with pytest.raises(MessageError, match="interface"):
        conversions.spec_from_message(spec_message)


def learned_reward() -> LearnedReward:
    layout = RewardLayout.of(SPEC, False, "squares", 0)
    size = layout.input_size
    arrays = {
        "shift": np.zeros(size), "scale": np.ones(size), "head/weight": np.eye(size)[None],
        "head/bias": np.ones((1, size)), "effort": np.full((1, SPEC.action.size), 0.1),
    }  # fmt: skip
    return LearnedReward(content=encode_reward(layout, arrays), version=7, weights={"effort": 0.5})


def test_a_learned_reward_comes_back_whole() -> None:
    task = learned_reward()
    again = conversions.task_from_message(conversions.task_to_message(task, SPEC.interface_hash, STAMP), SPEC)
    assert again == task and again.content == task.content
    state, action = np.ones(SPEC.state.size), np.ones(SPEC.action.size)
    assert again.reward(state, action, state) == task.reward(state, action, state)


def test_a_damaged_learned_reward_is_refused() -> None:
    message = conversions.task_to_message(learned_reward(), SPEC.interface_hash, STAMP)
    whole = bytes(message.content)
    not_finite = bytearray(whole)
    not_finite[-8:] = np.array([np.nan]).tobytes()
    for content, told in (
        (b"", "got 0 bytes"),
        (whole[:-1], "not a whole safetensors file"),
        (whole[:20], "not a whole safetensors file"),
        (bytes(not_finite), "not finite"),
    ):
        message.content = array.array("B", content)
        with pytest.raises(MessageError, match=told) as caught:
            conversions.task_from_message(message, SPEC)
        assert caught.value.reason == "invalid_task"
    # Of another robot, sent as if it were of this one.
    other = dataclasses.replace(SPEC, period=2.0 * SPEC.period)
    message.content = array.array("B", whole)
    message.interface_hash = other.interface_hash
    with pytest.raises(MessageError, match="learned on interface"):
        conversions.task_from_message(message, other)
