# SPDX-License-Identifier: Apache-2.0
"""KL-constrained steps on the cart-pole: a swing-up learned about one trajectory, from the simulation's own slopes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.config import load_preset
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.registry import make_model
from mbrl_planner.expansion import Trajectory
from mbrl_planner.objective import ModelObjective
from mbrl_policy.kl_step import KlStepConfig, kl_constrained_step
from mbrl_policy.linear_gaussian import LinearGaussianController, LinearGaussianDynamics, kl_divergence
from mbrl_policy.local_problem import local_problem, with_soft_limits

CONFIG = Path(__file__).resolve().parents[3] / "config"
HORIZON = 50
EPSILON = 0.1 * HORIZON
ROLLOUTS = 20


@dataclass
class Swing:
    """Iterations of rollouts, local model and constrained step."""

    returns: list[float]  # mean over noisy rollouts of each controller
    promised: list[float]  # divergence of each step from the controller before, by the local model
    measured: list[float]  # the same over the states that the robot then went through
    wanted: list[float]  # the largest mean action, in half ranges


@pytest.fixture(scope="module", params=[0, 1])
def swing(request: pytest.FixtureRequest) -> Swing:
    robot = load_robot(CONFIG / "robots" / "cartpole.yaml")
    task = task_of_preset(load_preset(CONFIG / "tasks" / "cartpole_swingup.yaml", "task"))
    model = make_model("mujoco", {"robot_file": str(CONFIG / "robots" / "cartpole.yaml")}, robot.spec, 0)
    problem = ModelObjective(model, task, particles=1, propagation="mean").trajectory_problem(robot.spec)
    reward, limit = with_soft_limits(task.reward, robot.spec.action, 10.0), robot.spec.action.upper[0]
    config, start, nothing = KlStepConfig(entropy_weight=0.01), np.zeros(4), 1e-8 * np.eye(4)

    # Hanging at rest is a saddle: a little push to either side, and noise of half the range.
    push = 0.3 * limit * np.sin(0.25 * np.arange(HORIZON))[:, None]
    controller = LinearGaussianController(np.zeros((HORIZON, 1, 4)), push, np.full((HORIZON, 1, 1), (0.5 * limit) ** 2))
    reference, result, multiplier = np.zeros((HORIZON + 1, 4)), Swing([], [], [], []), None
    previous: LinearGaussianController | None = None
    for iteration in range(16):
        noise = controller.noise(ROLLOUTS, np.random.default_rng([request.param, iteration]))
        wanted = controller.means(reference[:-1])
        mean, *rollouts = problem.closed_loop(
            start, reference, np.concatenate([wanted[None], wanted + noise]), controller.gains
        )
        result.returns.append(float(np.mean([rollout.total for rollout in rollouts])))
        result.wanted.append(float(np.abs(controller.means(mean.states[:-1])).max() / limit))
        if previous is not None:
            result.measured.append(divergence_on(rollouts, controller, previous))
        states, actions = mean.states, controller.means(mean.states[:-1])
        slopes = problem.expand(mean, second_order=False)
        by_state, by_action = slopes.by_state, slopes.by_action
        rest = states[1:] - ((by_state @ states[:-1, :, None]) + by_action @ actions[..., None])[..., 0]
        dynamics = LinearGaussianDynamics(by_state, by_action, rest, np.tile(nothing, (HORIZON, 1, 1)))
        about = np.stack([rollout.states for rollout in rollouts])
        local = local_problem(reward, about, controller.means(about[:, :-1]) + noise, dynamics, nothing)
        step = kl_constrained_step(local, controller, EPSILON, config, multiplier=multiplier)
        assert kl_divergence(step.controller, controller, local.states(step.controller)).sum() <= EPSILON
        result.promised.append(step.divergence)
        previous, controller, multiplier, reference = controller, step.controller, step.multiplier, states
    return result


def divergence_on(
    rollouts: list[Trajectory], controller: LinearGaussianController, previous: LinearGaussianController
) -> float:
    """KL(controller || previous) over the states of rollouts of `controller`."""
    states: Array = np.stack([rollout.states[:-1] for rollout in rollouts])
    totals = []
    random = np.random.default_rng(0)
    for _ in range(50):  # its actions anew at each state
        actions = controller.means(states) + controller.noise(len(states), random)
        totals.append(controller.log_density(states, actions) - previous.log_density(states, actions))
    return float(np.mean(np.sum(totals, axis=-1)))


def test_every_step_stays_within_epsilon(swing: Swing) -> None:
    """By the local model, and by samples of what the robot did."""
    assert max(swing.promised) <= EPSILON and min(swing.promised) >= 0.9 * EPSILON
    assert len(swing.measured) == 15


def test_every_step_improves_the_return(swing: Swing) -> None:
    assert swing.returns[0] < 1.0
    assert swing.returns[-1] > 15.0
