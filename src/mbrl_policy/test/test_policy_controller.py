# SPDX-License-Identifier: Apache-2.0
"""Short plans of policies, through the executor that robot_node runs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mbrl_core.messages import StepType, TimeStep
from mbrl_core.policies import POLICIES, Policy, TimeVaryingLinearPolicy, make_policy
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_policy.policy_controller import PolicyController, PolicyFailed
from mbrl_robot.executor import AddressedPlan, PlanExecutor
from mbrl_robot.simulation import MujocoSimulation

ROBOT = load_robot(Path(__file__).resolve().parents[3] / "config" / "robots" / "cartpole.yaml")
SPEC = ROBOT.spec
LOWER, UPPER = np.array(SPEC.action.lower), np.array(SPEC.action.upper)


def drawn(kind: str, size: float = 0.3, **configuration: object) -> Policy:
    policy = make_policy(kind, configuration, SPEC, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in policy.parameters():
            weights.add_(size * torch.randn(weights.shape, generator=generator))
    return policy


def time_step(step: int, state: Array, episode: int = 1) -> TimeStep:
    return TimeStep(episode, step, StepType.FIRST if step == 0 else StepType.MID, state, np.full(1, 0.0))


def executed(policy: Policy, delay: int, steps: int, rows: int = 1, lost: tuple[int, ...] = ()) -> list[Array]:
    """States of the simulated robot under a policy whose answers come `delay` steps late, except the first one; `lost`
    are steps whose answer does not come.
    """
    executor = PlanExecutor(SPEC, ("policy",))
    executor.begin_episode(1)
    controller = PolicyController(policy.fast(), SPEC, rows)
    simulation = MujocoSimulation(ROBOT)
    states = [simulation.reset(np.array([0.3, 0.4, -0.5, 1.0]))]
    for step in range(steps):
        answer = controller.answer(time_step(step, states[-1]), 0 if step == 0 else delay, 1 if step else 1 + delay)
        if answer is not None and step not in lost:
            addressed = AddressedPlan(answer.plan, "policy", 1, answer.start_step, step)
            executor.accept(addressed, newest_step=step, next_step=step)
        # What answers a step later than the delay allows is not there yet.
        row = executor.choose(step, states[-1], newest_answer=max(0, step - delay))
        assert row is not None, step
        states.append(simulation.step(np.clip(row.action, LOWER, UPPER)))
    return states


def undelayed(policy: Policy, steps: int) -> list[Array]:
    fast = policy.fast()
    simulation = MujocoSimulation(ROBOT)
    states = [simulation.reset(np.array([0.3, 0.4, -0.5, 1.0]))]
    for step in range(steps):
        states.append(simulation.step(fast.action(states[-1], step)))
    return states


def nominal() -> TimeVaryingLinearPolicy:
    random = np.random.default_rng(0)
    return TimeVaryingLinearPolicy.from_arrays(
        SPEC, random.normal(size=(30, 1)), random.normal(size=(30, 1, 4)), random.normal(size=(30, 4))
    )


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("rows", [1, 2])
def test_linear_feedback_loses_nothing_by_its_delay(delay: int, rows: int) -> None:
    # Without the pole's angle, whose sine and cosine are not linear; the last episode's answers clip at the limits.
    straight = drawn("linear", size=1.0, observed=["slider_position", "slider_velocity", "hinge_velocity"])
    for policy in (straight, nominal()):
        expected = undelayed(policy, 25)
        np.testing.assert_allclose(executed(policy, delay, 25, rows), expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["mlp", "rbf", "linear"])
def test_the_error_of_a_delayed_policy_is_of_second_order(kind: str) -> None:
    policy = drawn(kind, squash=True).fast()
    before, rate, bend = (
        np.array([0.3, 2.9, -0.5, 1.0]),
        np.array([1.0, -2.0, 0.5, 3.0]),
        np.array([1.0, 4.0, 2.0, -5.0]),
    )

    def path(at: float) -> Array:
        return before + at * rate + 0.5 * at * at * bend

    errors = []
    for dt in (0.08, 0.04, 0.02):
        controller = PolicyController(policy, SPEC)
        controller.answer(time_step(3, path(0.0)))
        answer = controller.answer(time_step(4, path(dt)), 1)
        assert answer is not None and answer.start_step == 5
        plan, state = answer.plan, path(2.0 * dt)
        assert plan.gains is not None and plan.predicted_states is not None
        action = plan.actions[0] + plan.gains[0] @ (state - plan.predicted_states[0])
        errors.append(abs(float((action - policy.action(state, 5))[0])))
        # Far closer than what the policy said of the state that it has seen.
        assert errors[-1] < 0.2 * abs(float((policy.action(path(dt), 4) - policy.action(state, 5))[0]))
    # The guess of the state is itself of second order, so that halving the step divides the error by about 16.
    assert errors[1] < errors[0] / 8.0 and errors[2] < errors[1] / 8.0 + 1e-6


def test_a_single_row_for_the_step_itself_is_the_action() -> None:
    policy = drawn("mlp").fast()
    state = np.array([0.1, 3.0, -0.2, 0.5])
    answer = PolicyController(policy, SPEC).answer(time_step(7, state))
    assert answer is not None and answer.start_step == 7 and answer.plan.gains is None
    np.testing.assert_array_equal(answer.plan.actions, policy.action(state, 7)[None])


def test_spare_rows_serve_when_answers_are_lost() -> None:
    policy = drawn("mlp", squash=True)
    states = executed(policy, 1, 20, rows=3, lost=(5, 6, 12))
    assert np.isfinite(states).all()
    with pytest.raises(AssertionError):
        executed(policy, 1, 20, rows=1, lost=(5, 6, 12))


def test_the_rate_is_that_of_one_episode_without_gaps() -> None:
    controller = PolicyController(drawn("mlp").fast(), SPEC)
    states = np.array([[0.0, 3.1, 0.0, 0.0], [0.1, -3.1, 0.2, 0.0]])

    def guess(step: int, state: Array, episode: int = 1) -> Array:
        answer = controller.answer(time_step(step, state, episode), 1)
        assert answer is not None and answer.plan.predicted_states is not None
        return answer.plan.predicted_states[0]

    np.testing.assert_array_equal(guess(4, states[0]), states[0])
    turned = 2.0 * np.pi - 6.2
    np.testing.assert_allclose(guess(5, states[1]), states[1] + [0.1, turned, 0.2, 0.0])  # through half a turn
    np.testing.assert_allclose(guess(7, states[0]), states[0] - 0.5 * np.array([0.1, turned, 0.2, 0.0]))
    np.testing.assert_array_equal(guess(8, states[1], episode=2), states[1])
    np.testing.assert_array_equal(guess(20, states[0], episode=2), states[0])


def test_a_nominal_trajectory_is_sent_as_far_as_rows_are_valid() -> None:
    policy = nominal()
    controller = PolicyController(policy.fast(), SPEC)
    answer = controller.answer(time_step(4, np.zeros(4)), 1)
    assert answer is not None and answer.start_step == 5
    assert len(answer.plan.actions) == SPEC.max_open_loop_steps
    np.testing.assert_allclose(answer.plan.actions, policy.actions.detach().numpy()[5:8])
    np.testing.assert_allclose(answer.plan.predicted_states, policy.states.numpy()[5:9])
    last = controller.answer(time_step(28, np.zeros(4)), 1)
    assert last is not None and last.plan.actions.shape == (1, 1) and last.plan.predicted_states.shape == (2, 4)
    assert controller.answer(time_step(29, np.zeros(4)), 1) is None
    assert controller.answer(time_step(500, np.zeros(4))) is None


@pytest.mark.parametrize("kind", POLICIES.names())
def test_every_kind_gives_plans_that_the_executor_takes(kind: str) -> None:
    assert len(executed(drawn(kind), 1, 10, rows=2)) == 11


@pytest.mark.parametrize("rows", [1, 2])
def test_numbers_that_are_not_finite_are_no_plan(rows: int) -> None:
    policy = drawn("linear")
    with torch.no_grad():
        policy.layer.weight.fill_(3e38)
    with pytest.raises(PolicyFailed, match="not finite in state"):
        PolicyController(policy.fast(), SPEC, rows).answer(time_step(0, np.array([1e3, 0.0, -1e3, 0.0])))


def test_on_a_late_robot_a_row_is_for_the_state_in_which_it_acts() -> None:
    late = dataclasses.replace(SPEC, delay=1.5 * SPEC.period)
    policy = drawn("mlp").fast()
    controller = PolicyController(policy, late)
    before, state = np.array([0.1, 3.0, -0.2, 0.5]), np.array([0.12, 3.02, -0.1, 0.4])
    controller.answer(time_step(3, before))
    answer = controller.answer(time_step(4, state))
    assert answer is not None and answer.start_step == 4
    plan = answer.plan
    acting, gain = policy.linearised(state + 1.5 * (state - before), 6)
    np.testing.assert_allclose(plan.actions[0], acting)
    assert plan.gains is not None and plan.predicted_states is not None
    np.testing.assert_allclose(plan.gains[0], gain)
    # The executor compares with the state in which it sends the row, which is the one that was measured.
    np.testing.assert_array_equal(plan.predicted_states[0], state)


def test_on_a_late_robot_a_nominal_trajectory_is_sent_earlier() -> None:
    late = dataclasses.replace(SPEC, delay=2.0 * SPEC.period)
    policy = nominal()
    controller = PolicyController(policy.fast(), late)
    answer = controller.answer(time_step(4, np.zeros(4)))
    assert answer is not None and answer.start_step == 4
    rows = len(answer.plan.actions)
    np.testing.assert_allclose(answer.plan.actions, policy.actions.detach().numpy()[6 : 6 + rows])
    np.testing.assert_allclose(answer.plan.predicted_states, policy.states.numpy()[4 : 5 + rows])
    last = controller.answer(time_step(27, np.zeros(4)))
    assert last is not None and last.plan.actions.shape == (1, 1)
    assert controller.answer(time_step(28, np.zeros(4))) is None, "its last action has been sent"
