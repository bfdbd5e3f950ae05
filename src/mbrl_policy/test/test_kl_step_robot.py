# SPDX-License-Identifier: Apache-2.0
"""KL-constrained steps on robots: swing-ups learned about one trajectory, from the simulation's own slopes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.config import load_preset
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array, state_difference
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.local_linear import LocalDynamics
from mbrl_dynamics.registry import make_model
from mbrl_planner.objective import ModelObjective
from mbrl_policy.kl_step import KlStepConfig, adapted_epsilon, kl_constrained_step
from mbrl_policy.linear_gaussian import LinearGaussianController
from mbrl_policy.local_problem import local_problem, with_soft_limits

CONFIG = Path(__file__).resolve().parents[3] / "config"
ROLLOUTS = 20


@dataclass
class Learning:
    """Iterations of rollouts, local model and constrained step."""

    returns: list[float]  # mean over noisy rollouts of each controller
    epsilons: list[float]
    promised: list[float]  # divergence of each step from the controller before, by samples of the local model
    measured: list[float]  # the same over the states that the robot then went through


def sampled_divergence(states: Array, controller: LinearGaussianController, other: LinearGaussianController) -> float:
    """E [log controller - log other] of trajectories at states [R, H, n], actions of `controller` drawn anew."""
    random, totals = np.random.default_rng(0), []
    for _ in range(1 + 4000 // len(states)):
        actions = controller.means(states) + controller.noise(len(states), random)
        totals.append(controller.log_density(states, actions) - other.log_density(states, actions))
    return float(np.mean(np.sum(totals, axis=-1)))


def learn(name: str, horizon: int, iterations: int, adapt: bool, seed: int) -> Learning:
    """From rest, 0.1 nats a step to begin with; with `adapt` up to four times that."""
    robot = load_robot(CONFIG / "robots" / f"{name}.yaml")
    task = task_of_preset(load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task"))
    model = make_model("mujoco", {"robot_file": str(CONFIG / "robots" / f"{name}.yaml")}, robot.spec, 0)
    problem = ModelObjective(model, task, particles=1, propagation="mean").trajectory_problem(robot.spec)
    reward, limit = with_soft_limits(task.reward, robot.spec.action, 10.0), robot.spec.action.upper[0]
    size, config = robot.spec.state.size, KlStepConfig(entropy_weight=0.01)
    start, nothing = np.zeros(size), 1e-8 * np.eye(size)
    # Hanging at rest is a saddle: a push to either side, and noise of half the range.
    push = 0.3 * limit * np.sin(0.25 * np.arange(horizon))[:, None]
    controller = LinearGaussianController(
        np.zeros((horizon, 1, size)), push, np.full((horizon, 1, 1), (0.5 * limit) ** 2)
    )
    reference, multiplier, epsilon = np.zeros((horizon + 1, size)), None, 0.1 * horizon
    result, previous, last = Learning([], [], [], []), None, None
    for iteration in range(iterations):
        noise = controller.noise(ROLLOUTS, np.random.default_rng([seed, iteration]))
        wanted = controller.means(reference[:-1])
        every = np.concatenate([wanted[None], wanted + noise])
        mean, *rollouts = problem.closed_loop(start, reference, every, controller.gains)
        result.returns.append(float(np.mean([rollout.total for rollout in rollouts])))
        states, actions = mean.states, controller.means(mean.states[:-1])
        # Feedback takes the shorter way round; so must what is fitted to it.
        about = np.stack([rollout.states for rollout in rollouts])
        about = states + state_difference(about, states, robot.spec.state.angular)
        if previous is not None:
            result.measured.append(sampled_divergence(about[:, :-1], controller, previous))
        slopes = problem.expand(mean, second_order=False)
        by_state, by_action = slopes.by_state, slopes.by_action
        rest = states[1:] - (by_state @ states[:-1, :, None] + by_action @ actions[..., None])[..., 0]
        dynamics = LocalDynamics(by_state, by_action, rest, np.tile(nothing, (horizon, 1, 1)))
        local = local_problem(reward, about, controller.means(about[:, :-1]) + noise, dynamics, nothing)
        expected = float(local.expected_rewards(controller).sum())
        if adapt and last is not None:
            least, most = 0.01 * horizon, 0.4 * horizon
            epsilon = adapted_epsilon(epsilon, last[1] - last[0], expected - last[0], least, most)
        step = kl_constrained_step(local, controller, epsilon, config, multiplier=multiplier)
        moments = local.states(step.controller)
        drawn = np.random.default_rng(iteration).standard_normal((400, horizon, size))
        roots = np.linalg.cholesky(moments.state_covariance[:-1])
        own = moments.state_mean[:-1] + np.einsum("hij,rhj->rhi", roots, drawn)
        result.promised.append(sampled_divergence(own, step.controller, controller))
        result.epsilons.append(epsilon)
        last = expected, float(local.expected_rewards(step.controller).sum())
        previous, controller, multiplier, reference = controller, step.controller, step.multiplier, states
    return result


@pytest.mark.parametrize("seed", [0, 1])
def test_every_step_on_the_pendulum_improves_the_return(seed: int) -> None:
    """The divergence is within the limit by samples of the local model, and over the robot's own states, too."""
    learned = learn("pendulum", 40, 15, adapt=False, seed=seed)
    assert (np.diff(learned.returns) > 0.0).all()
    assert learned.returns[-1] > learned.returns[0] + 3.0
    assert max(learned.promised) <= 1.1 * 4.0 and min(learned.promised) >= 0.9 * 4.0
    assert max(learned.measured) <= 1.1 * 4.0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_cart_pole_swings_up(seed: int) -> None:
    """Its dynamics bend more within a step: the return may fall at times, the divergence by the model stays."""
    learned = learn("cartpole", 50, 25, adapt=True, seed=seed)
    assert learned.returns[0] < 1.0 and learned.returns[-1] > 15.0  # of at most 33, one a step upright
    assert (np.array(learned.promised) <= 1.1 * np.array(learned.epsilons)).all()
    assert max(learned.epsilons) > 5.0
