# SPDX-License-Identifier: Apache-2.0
"""Rollouts on a running robot without the graph: answers, records, what is refused; and what is learned from."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.messages import EndReason, Plan, StepType, TimeStep
from mbrl_core.policies import make_policy
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import make_task
from mbrl_policy.live_rollout import (
    Disturbed,
    EpisodeRecord,
    Tolerances,
    controller_answers,
    policy_answers,
)
from mbrl_policy.training import RolloutError
from mbrl_policy.training.predictive_teacher import with_noise
from mbrl_policy.training.rollouts import action_noise
from mbrl_policy.training_data import collect, load_training_data, read_training_data

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
SPEC = load_robot(ROBOTS / "pendulum.yaml").spec
TASK = make_task("pendulum_upright")
START = np.array([0.5, 0.0])


def episode(count: int = 6, number: int = 3, controller: str = "trainer") -> list[TimeStep]:
    """Answered one step late, as in real time."""
    steps = []
    for index in range(count + 1):
        steps.append(
            TimeStep(
                episode=number,
                step=index,
                step_type=StepType.FIRST if index == 0 else StepType.LAST if index == count else StepType.MID,
                end_reason=EndReason.TIME_LIMIT if index == count else EndReason.NOT_ENDED,
                state=START + 0.1 * index,
                action=np.array([0.2 if index else np.nan]),
                action_valid=index > 0,
                controller=controller if index else "",
                row_age=min(max(index - 1, 0), 1),
            )
        )
    return steps


def record_of(steps: list[TimeStep], start: np.ndarray | None = START) -> EpisodeRecord:
    record = EpisodeRecord(SPEC, TASK, "trainer", start, Tolerances())
    answer = policy_answers(make_policy("linear", {}, SPEC, 1), None)
    for step in steps:
        record.add(step)
        if step.step_type != StepType.LAST:
            answered = answer(step, 0 if step.step == 0 else 1, 2 if step.step == 0 else 1)
            assert answered is not None
            record.answered(step.step, answered)
    return record


def test_what_was_wanted_is_the_policy_in_the_state_that_was_met() -> None:
    policy = make_policy("linear", {}, SPEC, 1)
    rollout = record_of(episode()).rollout(start_index=2)
    assert rollout.states.shape == (7, 2) and rollout.start_index == 2 and not rollout.terminated
    expected = [policy.fast().linearised(state, 0)[0] for state in rollout.states[:-1]]
    # To first order about a guess, and this policy's tanh is nearly straight here.
    np.testing.assert_allclose(rollout.wanted, expected, atol=1e-4)
    np.testing.assert_allclose(rollout.actions, 0.2)
    rewards = TASK.reward(rollout.states[:-1], rollout.actions, rollout.states[1:])
    np.testing.assert_allclose(rollout.rewards, rewards)


def test_an_episode_that_is_not_the_rollout_is_refused() -> None:
    changed = dataclasses.replace
    whole = episode()
    with pytest.raises(Disturbed, match="step 3 came after 1"):
        record_of([*whole[:2], *whole[3:]])
    with pytest.raises(Disturbed, match="began with step 1, expected FIRST"):
        record_of(whole[1:])
    with pytest.raises(Disturbed, match="ended by FAULT at step 6"):
        record_of([*whole[:-1], changed(whole[-1], end_reason=EndReason.FAULT)]).rollout()
    stolen = [changed(step, controller="safe") if step.step in (2, 3) else step for step in whole]
    with pytest.raises(Disturbed, match="2 of 6 steps were not those of 'trainer'"):
        record_of(stolen).rollout()
    one = [changed(step, controller="safe") if step.step == 2 else step for step in whole]
    assert record_of(one).rollout().wanted[1] == pytest.approx(0.2)
    with pytest.raises(
        RolloutError, match="pivot_position is 0.5, expected 1.5 within 0.2: the robot cannot reach this start"
    ):
        record_of(whole, np.array([1.5, 0.0]))
    record_of(whole, None).rollout()


def test_noise_is_that_of_the_simulated_robot_and_of_the_steps_it_is_for() -> None:
    policy = make_policy("mlp", {"initial_std": 0.3}, SPEC, 1)
    noise = action_noise(7, 6, 1)
    sampled, plain = policy_answers(policy, noise), policy_answers(policy, None)
    exact = sampled(episode()[2], 0, 1)
    assert exact is not None and exact.start_step == 2
    late = policy_answers(policy, noise)(dataclasses.replace(episode()[1], state=START + 0.2), 1, 1)
    assert late is not None and late.start_step == 2
    np.testing.assert_allclose(late.plan.actions[0], exact.plan.actions[0], atol=1e-6)
    without = plain(episode()[2], 0, 1)
    assert without is not None and abs(exact.plan.actions[0, 0] - without.plan.actions[0, 0]) > 0.01


def test_a_controller_is_asked_for_the_steps_that_its_answer_can_reach() -> None:
    asked: list[tuple[int, float]] = []

    def controller(time_step: TimeStep) -> Plan:
        asked.append((time_step.step, float(time_step.state[0])))
        return Plan(np.array([[float(time_step.step)]]))

    answers = controller_answers(controller, SPEC)
    first = answers(episode()[0], 0, 2)
    later = answers(episode()[1], 1, 1)
    assert first is not None and later is not None
    np.testing.assert_array_equal(first.plan.actions, [[0.0], [1.0]])
    assert (later.start_step, later.plan.actions.tolist()) == (2, [[2.0]])
    assert asked == [(0, 0.5), (1, 0.5), (2, pytest.approx(0.7))]
    with pytest.raises(RolloutError, match="actions of step 1: got .*nan"):
        controller_answers(lambda _: Plan(np.full((1, 1), np.nan)), SPEC)(episode()[1], 0, 1)


@pytest.mark.parametrize(("delay", "rows"), [(0, 4), (1, 3), (3, 1), (5, 1)])
def test_a_controller_s_later_rows_serve_when_the_next_plan_is_late(delay: int, rows: int) -> None:
    answers = controller_answers(lambda step: Plan(np.arange(step.step, step.step + 9.0)[:, None]), SPEC)
    answer = answers(episode()[1], delay, 1)
    assert SPEC.max_open_loop_steps == 3 and answer is not None and answer.start_step == 1 + delay
    np.testing.assert_array_equal(answer.plan.actions[:, 0], 1 + delay + np.arange(rows))
    first = controller_answers(lambda step: Plan(np.full((2, 1), step.step)), SPEC)(episode()[0], 0, 3)
    assert first is not None
    np.testing.assert_array_equal(first.plan.actions[:, 0], [0.0, 0.0, 2.0, 2.0])


def test_each_row_has_the_noise_of_its_step() -> None:
    noise = np.arange(10.0, 14.0)[:, None]
    controller = with_noise(lambda step: Plan(np.full((3, 1), 0.5)), noise, lambda: None)
    for step, expected in ((0, [10.5, 11.5, 12.5]), (2, [12.5, 13.5, 0.5]), (9, [0.5, 0.5, 0.5])):
        plan = controller(dataclasses.replace(episode()[1], step=step))
        np.testing.assert_array_equal(plan.actions[:, 0], expected)


def test_demonstrations_are_whole_episodes_of_teachers(tmp_path: Path) -> None:
    torn = episode(number=6, controller="planner")
    steps = [
        *episode(number=4, controller="planner"), *episode(number=5, controller="explore"), *torn[:3], *torn[4:],
        *episode(number=7, controller="planner")[:4],
    ]  # fmt: skip
    data = collect(steps, SPEC)
    (shown,) = data.demonstrations(TASK)
    np.testing.assert_allclose(shown.states[:, 0], 0.5 + 0.1 * np.arange(7))
    transitions = data.transitions()
    assert transitions is not None and len(transitions) == 6 + 6 + 4 + 3
    data.save(tmp_path / "heard.safetensors")
    again = load_training_data(tmp_path / "heard.safetensors", SPEC)
    np.testing.assert_array_equal(again.demonstrations(TASK)[0].states, shown.states)
    with pytest.raises(CheckpointError, match="not training data of robot 'cartpole'"):
        load_training_data(tmp_path / "heard.safetensors", load_robot(ROBOTS / "cartpole.yaml").spec)
    with pytest.raises(FileNotFoundError, match="neither a bag .* nor a run directory"):
        read_training_data(tmp_path, SPEC)
