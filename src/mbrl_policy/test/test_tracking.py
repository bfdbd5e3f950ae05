# SPDX-License-Identifier: Apache-2.0
"""Tracking: the Riccati recursion against brute force, and demonstrations of a robot that gets better."""

from pathlib import Path

import numpy as np
import pytest

from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.registry import make_model
from mbrl_policy.training import Rollout, SimulatedRobot, TrainingError, make_trainer
from mbrl_policy.training.feedback import tracking_gains

CONFIG = Path(__file__).resolve().parents[3] / "config"
ROBOT_FILE = CONFIG / "robots" / "pendulum.yaml"
STEPS = 40


def test_gains_minimise_the_cost_that_they_are_made_for() -> None:
    random = np.random.default_rng(0)
    steps, n, m = 6, 3, 2
    a = np.eye(n) + 0.2 * random.normal(size=(steps, n, n))
    b = 0.5 * random.normal(size=(steps, n, m))
    q, r = np.diag([1.0, 2.0, 0.5]), np.diag([0.3, 0.7])
    gains = tracking_gains(a, b, q, r)
    # The tail, whose linearisation is the last one, as so many further steps.
    longer = [np.concatenate([values, np.repeat(values[-1:], steps, axis=0)]) for values in (a, b)]
    start = random.normal(size=n)
    columns, free = [], start.copy()  # states as linear functions of all actions
    horizon = 2 * steps
    effect = np.zeros((n, horizon * m))
    hessian, gradient = np.kron(np.eye(horizon), r), np.zeros(horizon * m)
    for step in range(horizon):
        effect, free = longer[0][step] @ effect, longer[0][step] @ free
        effect[:, step * m : (step + 1) * m] += longer[1][step]
        hessian, gradient = hessian + effect.T @ q @ effect, gradient + effect.T @ q @ free
        columns.append(free)
    best = -np.linalg.solve(hessian, gradient)[:m]
    np.testing.assert_allclose(gains[0] @ start, best, rtol=1e-6)


def robot() -> SimulatedRobot:
    loaded = load_robot(ROBOT_FILE)
    return SimulatedRobot(loaded, task_of_preset(load_preset(CONFIG / "tasks" / f"{loaded.task}.yaml", "task")), STEPS)


def demonstration(here: SimulatedRobot) -> Rollout:
    """A clumsy one: energy is pumped in, with noise."""
    random = np.random.default_rng(1)

    def controller(time_step: TimeStep) -> Plan:
        return Plan(np.sign(time_step.state[1:2]) * 0.6 + random.normal(0.0, 0.3, 1)[None])

    return here.rollout_controller(controller, np.array([0.1, 0.0]), seed=1)


def test_a_demonstration_is_followed_and_made_better() -> None:
    here = robot()
    model = make_model("mujoco", {"robot_file": str(ROBOT_FILE)}, here.spec, 0)
    shown = demonstration(here)
    followed, improved = (
        make_trainer(
            "tracking", {"improvements": count, "evaluation_rollouts": 2}, here, 0, model=model, demonstrations=[shown]
        )
        for count in (0, 15)
    )
    followed.iterate()
    start = shown.states[0]
    again = here.rollout(followed.policy(), start)
    np.testing.assert_allclose(again.states, shown.states, atol=1e-4)
    pushed = here.rollout(followed.policy(), start + np.array([0.05, -0.2]))
    before, after = (np.abs(pushed.states - shown.states)[index].max() for index in (0, 20))
    assert after < 0.5 * before
    progress = improved.iterate()
    assert progress.information["predicted"] > shown.total_return
    assert here.rollout(improved.policy(), start).total_return > shown.total_return
    # What is resumed needs the demonstrations no more than to be made.
    twin = make_trainer(
        "tracking", {"improvements": 15, "evaluation_rollouts": 2}, here, 0, model=model, demonstrations=[shown, shown]
    )
    twin.restore(*improved.state())
    assert twin.iterate().mean_return == improved.iterate().mean_return


def test_what_it_cannot_follow_it_refuses() -> None:
    here = robot()
    model = make_model("mujoco", {"robot_file": str(ROBOT_FILE)}, here.spec, 0)
    with pytest.raises(ConfigurationError, match="got no demonstrations"):
        make_trainer("tracking", {}, here, 0, model=model)
    shown = demonstration(here)
    short = Rollout(shown.states[:6], shown.wanted[:5], shown.actions[:5], shown.rewards[:5])
    with pytest.raises(TrainingError, match="the longest of 1 has 5 steps, expected one of 40"):
        make_trainer("tracking", {}, here, 0, model=model, demonstrations=[short]).iterate()
