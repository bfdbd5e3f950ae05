# SPDX-License-Identifier: Apache-2.0
"""POPLIN: what its policy is, what it learns, and when; the planning itself is tested with all planners."""

from typing import Any

import numpy as np
import pytest
import torch
from analytic import ExactObjective, double_integrator, spec_of
from simulated import CONFIG, SimulatedObjective, robot_and_task

from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.messages import StepType, TimeStep
from mbrl_core.specs import RobotSpec, StateSpec
from mbrl_planner.controller import PredictiveController
from mbrl_planner.planner import PlanningError
from mbrl_planner.poplin import PolicyPlanner
from mbrl_planner.poplin_policy import PolicyNetwork
from mbrl_planner.registry import configure_planner, make_planner

KINDS = ("poplin_a_init", "poplin_a_replan", "poplin_p")
POINT = spec_of(2, 1, 3.0)
START = np.array([1.0, 0.0])
TURNING = RobotSpec(
    "turning", 0.1,
    StateSpec(("a", "b", "c"), ("linear", "angular", "linear"), ("m", "rad", "m"), (-np.inf,) * 3, (np.inf,) * 3),
    spec_of(3, 2, 1.5).action,
)  # fmt: skip


def preset(kind: str, **changes: Any) -> dict[str, Any]:
    small = {"horizon": 8, "iterations": 2, "population_size": 20, "elites": 3, "distil_steps": 50}
    return load_preset(CONFIG / "planner" / f"{kind}.yaml", "planner") | small | changes


def a_planner(kind: str, objective: ExactObjective | None = None, **changes: Any) -> PolicyPlanner:
    planner = make_planner(preset(kind, **changes), POINT, objective or double_integrator(), 0)
    assert isinstance(planner, PolicyPlanner)
    return planner


def run_episode(planner: PolicyPlanner, episode: int, steps: int = 4, ends: bool = True) -> bytes:
    """Plans along a path that does not depend on them."""
    plans = [planner.plan(START * 0.8**step, step_key=(episode, step)) for step in range(steps)]
    if ends:
        planner.end_episode()
    return b"".join(plan.actions.tobytes() for plan in plans)


def weights(planner: PolicyPlanner) -> torch.Tensor:
    return torch.cat([values.detach().flatten() for layer in planner.policy._layers() for values in layer])


def states(count: int, size: int = 3) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_the_policy_starts_neutral_and_its_perturbations_are_policies(layers: int) -> None:
    network = PolicyNetwork(layers, 5, TURNING, 0)
    assert not network.act(states(9)).any()
    changes = 0.5 * torch.randn(4, 1, network.weight_count, generator=torch.Generator().manual_seed(2))
    batch = states(12).view(4, 3, 3)
    answers = network.perturbed(changes)(batch, 7)
    for index in range(4):
        other = PolicyNetwork(layers, 5, TURNING, 0)
        other.add(changes[index, 0])
        torch.testing.assert_close(answers[index], other.act(batch[index]))
        assert answers[index].abs().max() > 0.01
    by_step = network.perturbed(torch.stack([changes[:, 0], -changes[:, 0]], dim=1))
    torch.testing.assert_close(by_step(batch, 0), answers)
    torch.testing.assert_close(by_step(batch, 1), network.perturbed(-changes)(batch, 0))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_scaling_the_observations_leaves_the_policy_as_it_is(layers: int) -> None:
    network = PolicyNetwork(layers, 5, TURNING, 0)
    network.add(torch.randn(network.weight_count, generator=torch.Generator().manual_seed(2)))
    seen = states(50) * torch.tensor([20.0, 1.0, 1e-6])
    before = network.act(seen)
    network.scale_observations(seen)
    torch.testing.assert_close(network.act(seen), before, rtol=1e-4, atol=1e-5)
    assert network.module.observe(seen)[:, :2].square().mean(dim=0).sqrt()[0] == pytest.approx(1.0, rel=1e-3)
    # What hardly varies is not blown up; sines and cosines stay.
    torch.testing.assert_close(network.module.observation_scale[1:], torch.tensor([0.1, 1.0, 1.0]))


def test_behaviour_cloning_finds_the_law_that_made_the_actions() -> None:
    network = PolicyNetwork(1, 16, TURNING, 0)
    seen = states(400)
    wanted = 1.4 * torch.tanh(torch.stack([seen[:, 0] - seen[:, 2], torch.sin(seen[:, 1])], dim=1))
    network.clone_behaviour(seen, wanted, 400, 0.02, 0)
    assert (network.act(seen) - wanted).square().mean() < 0.03 * wanted.square().mean()


def test_behaviour_cloning_that_diverges_is_dropped() -> None:
    network = PolicyNetwork(1, 4, TURNING, 0)
    network.clone_behaviour(states(5), torch.full((5, 2), torch.inf), 3, 0.01, 0)
    assert not network.trained and not network.act(states(9)).any()


def test_a_init_is_cem_until_its_policy_has_learned() -> None:
    shared = {"horizon": 8, "population_size": 40, "elites": 5, "initial_std": 0.4, "iterations": 3}
    learning = a_planner("poplin_a_init", **shared)
    plain = make_planner({"kind": "cem", **shared}, POINT, double_integrator(), 0)
    for step in range(4):
        ours, theirs = (planner.plan(START, step_key=(1, step)).actions for planner in (learning, plain))
        np.testing.assert_array_equal(ours, theirs)
    learning.end_episode()
    assert not np.array_equal(learning.plan(START, step_key=(2, 0)).actions, theirs)


def test_a_init_starts_from_the_rollout_of_its_policy() -> None:
    objective = double_integrator()
    planner = a_planner("poplin_a_init", objective, iterations=1, initial_std=0.001)
    planner.policy.clone_behaviour(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0]]), 200, 0.01, 0)
    plan = planner.plan(START)
    with torch.inference_mode():
        _, expected = objective.closed_loop(START, lambda states, step: planner.policy.act(states), 1, 8)
    assert float(expected[0, 0]) == pytest.approx(-1.0, abs=0.05)
    np.testing.assert_allclose(plan.actions, expected[0], atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_learns_at_the_end_of_an_episode_and_keeps_it(kind: str) -> None:
    planner = a_planner(kind)
    fresh = run_episode(planner, 1, ends=False)
    planner.reset()
    # A reset within an episode leaves nothing behind.
    assert run_episode(planner, 1, ends=False) == fresh
    before = weights(planner)
    planner.end_episode()
    assert planner.episodes_learned == 1 and not torch.equal(weights(planner), before)
    learned = weights(planner)
    planner.reset()
    planner.warm_up(10.0)
    planner.end_episode()  # nothing was planned since
    assert torch.equal(weights(planner), learned) and planner.episodes_learned == 1
    assert run_episode(planner, 1) != fresh


@pytest.mark.parametrize("kind", KINDS)
def test_same_episodes_same_bytes(kind: str) -> None:
    def run(seed: int) -> bytes:
        planner = make_planner(preset(kind), POINT, double_integrator(), seed)
        assert isinstance(planner, PolicyPlanner)
        return b"".join(run_episode(planner, episode) for episode in range(3))

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize("kind", KINDS)
def test_learns_only_from_what_it_planned(kind: str) -> None:
    planner = a_planner(kind, memory=10)
    run_episode(planner, 1)
    for step in range(6):
        planner.plan(np.array([0.0, float(step)]), step_key=(2, step))
    planner.plan(START, deadline=0.0, step_key=(2, 6))  # the warm start's answer, nothing planned
    planner.end_episode()
    np.testing.assert_array_equal(planner._states[4:, 1], np.arange(6.0))
    assert len(planner._states) == 10  # the newest


@pytest.fixture(scope="module")
def educated() -> PolicyNetwork:
    """A policy that has seen the double integrator brought to rest, from START and on the way."""
    teacher = a_planner("poplin_a_init", horizon=12, iterations=4, population_size=60, elites=6, distil_steps=600)
    state = START
    for step in range(25):
        state = teacher.objective.advance(state, teacher.plan(state, step_key=(1, step)).actions[:1])
    teacher.end_episode()
    return teacher.policy


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_helps_where_there_is_little_time(kind: str, educated: PolicyNetwork) -> None:
    planner = a_planner(kind, iterations=1, initial_std=0.3)
    returns = []
    for _ in range(2):
        plans = []
        for index in range(10):
            planner.reset()
            plans.append(planner.plan(np.array([0.8, -0.3]), step_key=(9, index)).predicted_return)
        returns.append(np.mean(plans))
        planner.policy = educated
    assert returns[1] > returns[0]


def test_averaging_adds_the_mean_of_what_was_executed() -> None:
    planner = a_planner("poplin_p", distillation="average", noise="separate", policy_layers=0)
    run_episode(planner, 1, ends=False)
    executed, before = np.mean(planner._executed, axis=0), weights(planner)
    planner.end_episode()
    torch.testing.assert_close(weights(planner), before + torch.from_numpy(executed))


def test_executed_actions_are_those_of_the_perturbed_policy() -> None:
    for noise in ("uniform", "separate"):
        planner = a_planner("poplin_p", noise=noise)
        plan = planner.plan(START)
        policy = planner.policy.perturbed(torch.from_numpy(planner._best_perturbation[None]))
        first = policy(torch.tensor([[[1.0, 0.0]]]), 0)
        np.testing.assert_allclose(plan.actions[0], first[0, 0].detach(), atol=1e-6)


def test_an_objective_that_cannot_roll_out_policies_says_so() -> None:
    class OpenLoop(ExactObjective):
        def closed_loop(self, state: Any, policy: Any, count: int, horizon: int) -> Any:
            return super(ExactObjective, self).closed_loop(state, policy, count, horizon)

    exact = double_integrator()
    with pytest.raises(PlanningError, match="OpenLoop cannot roll out a policy"):
        a_planner("poplin_p", OpenLoop(exact.step, exact.reward)).plan(START)


def test_closed_loop_in_the_simulator_is_the_open_loop_of_its_actions() -> None:
    robot, task = robot_and_task("acrobot")
    objective = SimulatedObjective(robot, task)
    network = PolicyNetwork(1, 8, robot.spec, 0)
    policy = network.perturbed(torch.randn(5, 1, network.weight_count, generator=torch.Generator().manual_seed(1)))
    state = np.array([0.5, -0.4, 1.0, 2.0])
    with torch.inference_mode():
        returns, actions = objective.closed_loop(state, policy, 5, 12)
        torch.testing.assert_close(objective(state, actions), returns, rtol=1e-4, atol=1e-4)
    assert actions.std() > 0.1


@pytest.mark.parametrize("ends", [True, False])
def test_the_controller_ends_episodes(ends: bool) -> None:
    """Also when the last time step is lost, and never twice."""
    planner = a_planner("poplin_a_init", iterations=1)
    controller = PredictiveController(planner)
    for episode in (1, 2):
        for step in range(3):
            kind = StepType.FIRST if step == 0 else StepType.MID
            controller.answer(TimeStep(episode, step, kind, START, np.zeros(1)))
        assert planner.episodes_learned == episode - 1
        if ends:
            controller.end_episode()
    if not ends:
        controller.answer(TimeStep(3, 0, StepType.FIRST, START, np.zeros(1)))
    assert planner.episodes_learned == 2 and len(planner._states) == 6


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        ("poplin_p", {"noise": "pink"}, "'noise': got 'pink', expected one of uniform, separate"),
        ("poplin_p", {"distillation": "osmosis"}, "expected one of behaviour_cloning, average"),
        ("poplin_a_init", {"policy_layers": -1}, "'policy_layers': got -1, expected at least 0"),
        ("poplin_a_replan", {"elites": 20}, "'elites': got 20, expected less than population_size 20"),
        ("poplin_a_replan", {"noise": "uniform"}, "unknown parameter 'noise'"),
    ],
)
def test_bad_configurations_are_refused(kind: str, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure_planner(preset(kind, **changes))
    assert text in str(caught.value)
