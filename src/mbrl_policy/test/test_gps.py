# SPDX-License-Identifier: Apache-2.0
"""Guided policy search on simulated robots, and its parts against what they are to compute."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbrl_core.checkpoint import load_checkpoint
from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.dataset import Transitions
from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_core.policies import make_policy, policy_arrays
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.local_linear import Chart
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_policy.kl_step import KlStep, KlStepConfig
from mbrl_policy.live_rollout import controller_answers
from mbrl_policy.training import (
    RolloutError,
    SimulatedRobot,
    TrainingInterrupted,
    condition,
    make_trainer,
    save_trainer,
)
from mbrl_policy.training.adam import Adam
from mbrl_policy.training.condition import Law, Noise, StepTask, first_controller, near
from mbrl_policy.training.distillation import Lesson, distil, limited
from mbrl_policy.training.gps import GuidedPolicySearch
from mbrl_policy.training.local_models import linearised_model
from mbrl_policy.training.predictive_teacher import with_noise

CONFIG = Path(__file__).resolve().parents[3] / "config"
SMALL = {
    "conditions": 2, "rollouts": 3, "expansions": 3, "samples": 8, "imagined": 4, "supervised_steps": 150,
    "initial_std": 0.05, "push": 0.0, "epsilon": 2.0, "most_epsilon": 20.0,
}  # fmt: skip


def robot(name: str = "reacher", steps: int = 20) -> SimulatedRobot:
    loaded = load_robot(CONFIG / "robots" / f"{name}.yaml")
    return SimulatedRobot(loaded, task_of_preset(load_preset(CONFIG / "tasks" / f"{loaded.task}.yaml", "task")), steps)


def truth(here: SimulatedRobot) -> DynamicsModel:
    file = str(CONFIG / "robots" / f"{here.spec.name}.yaml")
    return make_model("mujoco", {"robot_file": file}, here.spec, 0)


def trainer(name: str = "reacher", steps: int = 20, seed: int = 3, **settings: Any) -> GuidedPolicySearch:
    sources = {key: settings.pop(key) for key in ("model", "planner", "policy") if key in settings}
    made = make_trainer("gps", {**SMALL, **settings}, robot(name, steps), seed, **sources)
    assert isinstance(made, GuidedPolicySearch)
    return made


def test_controllers_and_network_improve_and_no_step_goes_further_than_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divergences of all steps are measured again by trajectories drawn under the local dynamics."""
    shares: list[float] = []
    step = condition.kl_constrained_step

    def measured(problem: Any, reference: Any, epsilon: float, *rest: Any) -> KlStep:
        found = step(problem, reference, epsilon, *rest)
        random, new = generator(0, 0, 0, "measure"), found.controller
        starts = random.multivariate_normal(problem.mean, problem.covariance, 500)
        states, actions = problem.dynamics.simulate(starts, new.gains, new.offsets, new.covariances, random)
        logs = new.log_density(states[:, :-1], actions) - reference.log_density(states[:, :-1], actions)
        shares.append(float(logs.sum(axis=1).mean()) / epsilon)
        return found

    monkeypatch.setattr(condition, "kl_constrained_step", measured)
    made = trainer()
    progress = [made.iterate() for _ in range(4)]
    controllers = [each.information["controller_return"] for each in progress]
    assert controllers[-1] > controllers[0] + 8.0
    assert made.best_return > controllers[0] + 8.0
    assert made.rollouts == 4 * 2 * (3 + 1) == progress[-1].rollouts
    assert len(shares) >= 8 and max(shares) <= 1.1
    for law, each in zip(made.local_policies(), made.conditions, strict=True):
        silent = made.robot.rollout(law, each.start).total_return
        assert silent > controllers[0]


@pytest.mark.parametrize("coupling", ["mirror_descent", "augmented_lagrangian"])
def test_other_couplings_train_too(coupling: str) -> None:
    made = trainer(coupling=coupling)
    first = made.iterate()
    for _ in range(3):
        made.iterate()
    assert made.best_return > first.information["controller_return"] + 1.0


@pytest.mark.parametrize("kind", ["mixture", "model", "taught"])
def test_a_trainer_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, kind: str) -> None:
    """The same bytes, of the network, of every controller and of the model; stopped in rollouts and fits."""
    settings: dict[str, Any] = {"rollouts": 2, "steps": 12, "dynamics": "mixture" if kind == "mixture" else "model"}
    if kind == "taught":
        planner = {"kind": "ilqr", "horizon": 5, "iterations": 1, "restarts": 0, "particles": 1, "propagation": "mean"}
        settings |= {"teacher_iterations": 2, "planner": planner, "model": truth(robot())}
    whole, first, second = (trainer(**settings) for _ in range(3))
    for _ in range(3):
        whole.iterate()
    first.iterate()
    first.iterate()
    save_trainer(tmp_path / "trainer.safetensors", first)
    second.restore(*load_checkpoint(tmp_path / "trainer.safetensors"))
    asked = 0

    def counted() -> bool:
        nonlocal asked
        asked += 1
        return True

    untouched, _ = second.state()
    second.iterate(counted)
    second.restore(*load_checkpoint(tmp_path / "trainer.safetensors"))
    for stop in (5, asked // 2, asked - 1):
        calls = iter([True] * stop + [False] * 100)
        with pytest.raises(TrainingInterrupted):
            second.iterate(lambda calls=calls: next(calls))  # type: ignore[misc]
        for name, value in untouched.items():
            np.testing.assert_array_equal(value, second.state()[0][name], err_msg=name)
    second.iterate()
    for ours, theirs in zip(whole.state(), second.state(), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_the_network_sees_what_it_is_to_see_and_the_teacher_all() -> None:
    here = robot("cartpole")
    observed = list(here.spec.state.names[:2])
    policy = {"kind": "mlp", "squash": False, "covariance": "diagonal", "observed": observed}
    made = trainer("cartpole", policy=policy, rollouts=2)
    made.iterate()
    states = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    other = states.clone()
    other[:, 2:] += 1.0
    network = made.policy()
    np.testing.assert_array_equal(network.mode(states).detach(), network.mode(other).detach())
    assert any(np.abs(each.law.controller.gains[..., 2:]).max() > 0.0 for each in made.conditions)


@pytest.mark.parametrize("dynamics", ["regression", "ensemble", "model"])
def test_local_dynamics_come_from_elsewhere_too(dynamics: str) -> None:
    made = trainer(dynamics=dynamics, model=truth(robot()), rollouts=8)
    first = made.iterate()
    assert made.iterate().information["controller_return"] > first.information["controller_return"]


def test_a_model_learns_along_where_none_is_given() -> None:
    made = trainer("pendulum", dynamics="model", steps=25, initial_std=0.3)
    made.iterate()
    assert made.local.model is not None
    random = np.random.default_rng(0)
    states, actions = random.normal(0.0, 0.2, (50, 2)), random.uniform(-0.5, 0.5, (50, 1))
    given = [torch.from_numpy(part) for part in (states, actions)]
    true = truth(made.robot).predict(*given).mean[0].numpy()

    def error() -> float:
        assert made.local.model is not None
        with torch.no_grad():
            told = made.local.model.predict(*(part.float() for part in given)).mean.mean(dim=0).double().numpy()
        return float(np.abs(told - true).mean())

    assert error() < 0.5 * float(np.abs(true - states).mean())
    earlier = made.local.spread()
    again = trainer("pendulum", dynamics="model", steps=25, initial_std=0.3)
    again.restore(*made.state())
    assert all(np.array_equal(value, again.state()[0][name]) for name, value in made.state()[0].items())
    data = Transitions(3.0 * states, actions, true, np.zeros(50, dtype=int), np.arange(50))
    informed = make_trainer("gps", {**SMALL, "dynamics": "model"}, made.robot, 3, dataset=data)
    assert isinstance(informed, GuidedPolicySearch)
    np.testing.assert_allclose(informed.local.spread(), data.state.std(axis=0))
    assert not np.allclose(informed.local.spread(), earlier)


def test_model_predictive_control_teaches() -> None:
    """The first controllers hold the robot on its trajectories, the cart-pole's unstable one among them."""
    planner = {"kind": "icem", "horizon": 25, "particles": 1, "propagation": "mean"}
    upright = [0.0, np.pi, 0.0, 0.0]
    here = robot("cartpole", 60)
    made = trainer(
        "cartpole", steps=60, teacher_iterations=1, planner=planner, model=truth(here), conditions=1, rollouts=3,
        teacher_std=0.02, start_states=upright, dynamics="model",
    )  # fmt: skip
    progress = made.iterate()
    assert np.isnan(progress.kl) and progress.information["controller_return"] > 50.0
    law = made.conditions[0].law
    assert np.abs(law.controller.gains).max() > 0.1
    beside = made.conditions[0].start + np.array([0.0, 0.05, 0.0, 0.0])
    assert here.rollout(law.policy(here.spec), beside).total_return > 50.0
    silent = dataclasses.replace(law.controller, gains=0.0 * law.controller.gains,
                                 offsets=law.controller.means(law.reference[:-1]))  # fmt: skip
    assert here.rollout(Law(silent, law.reference).policy(here.spec), beside).total_return < 50.0
    made.iterate()
    assert made.conditions[0].best_return > 50.0


def test_a_rollout_that_lost_the_trajectory_is_left_out() -> None:
    """Of the median and of what is learned along it; not of the returns, by which a controller is judged."""
    made = trainer("cartpole", steps=20, conditions=1, rollouts=5)
    one, spec = made.conditions[0], made.robot.spec
    law = one.law.policy(spec)
    rollouts = [made.robot.rollout(law, one.start, 20, seed, True) for seed in range(5)]
    lost = rollouts[2].states + np.linspace(0.0, 5.0, 21)[:, None]
    rollouts[2] = dataclasses.replace(rollouts[2], states=lost)
    spread = np.ones(4)
    batch = one.take(rollouts, spec, spread, 1, False)
    assert len(batch.states) == len(batch.wanted) == len(batch.executed) == 4 and len(batch.returns) == 5
    assert np.abs(one.law.reference - lost).max() > 4.0
    assert len(one.take(rollouts, spec, spread, 5, False).states) == 5
    assert len(one.take(rollouts, spec, 1e-9 * spread, 1, False).states) == 5
    kept = near(np.stack([rollout.states for rollout in rollouts]), one.law.reference, spread)
    assert kept[2, 0] and not kept[2, -1] and np.all(kept[2, :-1] >= kept[2, 1:])


def test_a_teacher_may_be_asked_beyond_the_episode() -> None:
    """In real time, where answers are for steps to come."""
    made = controller_answers(
        with_noise(lambda step: Plan(np.zeros((1, 1))), np.full((5, 1), 0.5), lambda: None), robot("pendulum").spec
    )
    last = TimeStep(1, 4, StepType.MID, np.zeros(2), np.zeros(1))
    answers = made(last, 0, 3)
    assert answers is not None and answers.plan.actions[:, 0].tolist() == [0.5, 0.0, 0.0]


def test_a_models_own_slopes_are_those_of_the_simulation() -> None:
    here = robot()
    model = truth(here)
    states = np.random.default_rng(0).normal(0.0, 0.3, (3, 6, 4))
    actions = np.random.default_rng(1).normal(0.0, 0.1, (3, 5, 2))
    local = linearised_model(model, states, actions, Chart(states.mean(axis=0), here.spec.state.angular))
    centre, wanted = torch.from_numpy(states[:, :-1].mean(axis=0)), torch.from_numpy(actions.mean(axis=0))
    by_state, by_action = model.jacobians(centre, wanted)
    np.testing.assert_allclose(local.matrix, by_state[0], atol=0.02)
    np.testing.assert_allclose(local.control, by_action[0], atol=0.02)
    predicted = np.stack([local.predict(states[:, step], actions[:, step], step) for step in range(5)], axis=1)
    flat = [torch.from_numpy(part.reshape(15, -1)) for part in (states[:, :-1], actions)]
    simulated = model.predict(*flat).mean[0].numpy().reshape(3, 5, 4)
    np.testing.assert_allclose(predicted.mean(axis=0), simulated.mean(axis=0), atol=1e-9)


def test_trajectories_of_opposite_noise_are_those_of_the_dynamics() -> None:
    """Means of simulated trajectories are exact; actions are clipped in what they do, not in what is wanted."""
    here = robot()
    model, spec = truth(here), here.spec
    controller = first_controller(spec, 5, 0.2, 0.0, 25.0)
    states = np.zeros((2, 6, 4))
    local = linearised_model(model, states, np.zeros((2, 5, 2)), Chart(states[0], spec.state.angular))
    limits = np.array(spec.action.lower), np.array(spec.action.upper)
    nothing, start = KlStepConfig(), 1e-4 * np.eye(4)
    task = StepTask(here.task.reward, here.task.terminated, start, *limits, nothing, True, 1, 8)
    noise = Noise.of(np.random.default_rng(0), 8, local)
    found = noise.simulated(task, local, controller, np.full(4, 0.1))
    expected = local.rollout(np.full((1, 4), 0.1), np.zeros((1, 5, 2)))[0]
    np.testing.assert_allclose(found.states.mean(axis=0), expected, atol=1e-12)
    loud = noise.simulated(task, local, first_controller(spec, 5, 9.0, 0.0, 25.0), np.full(4, 0.1))
    assert np.abs(loud.wanted).max() > 1.0
    step = local.predict(loud.states[:, 0], np.clip(loud.wanted[:, 0], *limits), 0)
    np.testing.assert_allclose(loud.states[:, 1], step, atol=1e-3)


@pytest.mark.parametrize(("squash", "covariance"), [(False, "full"), (True, "state")])
def test_a_network_learns_a_controller(squash: bool, covariance: str) -> None:
    spec = robot().spec
    policy = make_policy("mlp", {"squash": squash, "covariance": covariance, "hidden_units": 32}, spec, 0)
    random = np.random.default_rng(0)
    states = random.normal(0.0, 0.5, (2000, 4))
    means = 0.3 * states[:, :2] - 0.1 * states[:, 2:]
    lesson = Lesson(states, means, np.tile(np.diag([100.0, 25.0]), (2000, 1, 1)), np.ones(2000))
    policy.normalise(torch.from_numpy(states).float())
    before = distil(policy, lesson, 0, 1, 200, 3e-3, lambda: None)
    after = distil(policy, lesson, 0, 600, 200, 3e-3, lambda: None)
    answer = policy.mode(torch.from_numpy(states).float()).detach().numpy()
    assert after < before and np.abs(answer - means).mean() < 0.02
    std = policy.act(torch.zeros(1, 4)).gaussian.stddev[0].detach().numpy() if not squash else None
    if std is not None:
        np.testing.assert_allclose(std, [0.1, 0.2], rtol=1e-3)


def test_precisions_are_limited_by_their_median() -> None:
    precisions = np.array([1.0, 2.0, 3.0, 100.0])[:, None, None] * np.eye(2)
    found = limited(precisions, 2.0)
    np.testing.assert_allclose(found[:, 0, 0], [1.0, 2.0, 3.0, 5.0])


def test_adam_is_that_of_the_paper() -> None:
    weights = torch.tensor([1.0, -2.0])
    mine, first, second, value = Adam([weights]), np.zeros(2), np.zeros(2), np.array([1.0, -2.0])
    for step in range(1, 6):
        gradient = np.array([0.5, -0.1]) * step
        mine.step([torch.from_numpy(gradient).float()], 0.1)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        value = value - 0.1 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(weights.numpy(), value, rtol=1e-5)


def test_what_does_not_go_together_is_refused() -> None:
    for settings, text in (
        ({"dynamics": "regression", "rollouts": 3}, "'rollouts': got 3, expected at least 7"),
        ({"start_states": [0.1, 0.0, 0.2]}, "'start_states': got 3 numbers, expected 2 conditions of 4 states"),
        ({"start_std": [0.1]}, "'start_std': got .*, expected 4 numbers"),
        ({"teacher_iterations": 1}, "'teacher_iterations': expected sources planner and model"),
        ({"policy": {"kind": "time_varying_linear"}}, "'policy.kind': got 'time_varying_linear'"),
        ({"model": truth(robot("pendulum")), "dynamics": "model"}, "model: is of robot 'pendulum'"),
        ({"coupling": "none"}, "'coupling': got 'none'"),
        ({"least_epsilon": 3.0}, "'epsilon': got 2.0"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            trainer(**settings)  # type: ignore[arg-type]
    far = trainer("cartpole", start_states=[0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0], rollouts=2)
    before = policy_arrays(far.network)
    with pytest.raises(RolloutError, match="slider_position 9 is out of reach"):
        far.iterate()
    assert far.rollouts == 0 and all(np.array_equal(before[name], value) for name, value in
                                     policy_arrays(far.network).items())  # fmt: skip
