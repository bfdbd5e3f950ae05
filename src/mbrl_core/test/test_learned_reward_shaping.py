# SPDX-License-Identifier: Apache-2.0
"""Potential-based shaping: what it changes over a finite horizon, and that it changes nothing else."""

import numpy as np
import pytest
import torch

from mbrl_core.config import ConfigurationError
from mbrl_core.libraries import Batch, array_library
from mbrl_core.shaping import ShapedTask
from mbrl_core.tasks import CartpoleTip, Task, make_task


def potential(state: Batch) -> Batch:
    return array_library(state).cos(state[..., 1]) - 0.5 * state[..., 0] * state[..., 0] + 2.0


class Falling(CartpoleTip):
    """Ends where the cart leaves the middle."""

    def terminated(self, state: Batch) -> Batch:
        return array_library(state).abs(state[..., 0]) > 1.0


def episode(steps: int = 7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    return random.uniform(-0.9, 0.9, (3, steps + 1, 4)), random.normal(size=(3, steps, 1))


def discounted(task: Task, states: np.ndarray, actions: np.ndarray, discount: float) -> np.ndarray:
    rewards = task.reward(states[:, :-1], actions, states[:, 1:])
    return np.asarray((rewards * discount ** np.arange(actions.shape[1])).sum(axis=1))


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_a_horizon_gains_the_potential_of_its_last_state(discount: float) -> None:
    task, (states, actions) = make_task("cartpole_tip"), episode()
    gained = discounted(ShapedTask(task, potential, discount), states, actions, discount) - discounted(
        task, states, actions, discount
    )
    last = discount ** actions.shape[1] * potential(states[:, -1])
    np.testing.assert_allclose(gained, last - potential(states[:, 0]), atol=1e-12)


def test_the_last_potential_changes_what_a_finite_horizon_prefers() -> None:
    # Two sequences from one start: without shaping the first is better, by its last state's potential the second.
    task, (states, actions) = make_task("cartpole_tip"), episode()
    states[:, 0] = states[0, 0]
    plain = discounted(task, states, actions, 1.0)
    best, worst = int(plain.argmax()), int(plain.argmin())
    scale = 2.0 * (plain[best] - plain[worst])
    shaped = ShapedTask(task, lambda state: scale * (state == states[worst, -1]).all(axis=-1), 1.0)
    assert discounted(shaped, states, actions, 1.0).argmax() == worst


def test_absorbing_ends_leave_the_order_of_episodes_as_it_was() -> None:
    # Every sequence ends in an absorbing state: all change by the same, -phi(s_0).
    task, (states, actions) = Falling(), episode()
    states[:, 0], states[:, -1, 0] = states[0, 0], 1.5
    change = discounted(ShapedTask(task, potential, 0.9), states, actions, 0.9) - discounted(task, states, actions, 0.9)
    np.testing.assert_allclose(change, -potential(states[:, 0]), atol=1e-12)


def test_optimal_policies_of_endless_problems_stay() -> None:
    random, discount = np.random.default_rng(0), 0.9
    transitions, reward = random.dirichlet(np.ones(6), size=(6, 3)), random.normal(size=(6, 3, 6))
    phi = 5.0 * random.normal(size=6)
    shaped = reward + discount * phi - phi[:, None, None]
    found = []
    for rewards in (reward, shaped):
        value = np.zeros(6)
        for _ in range(800):
            quality = (transitions * (rewards + discount * value)).sum(axis=-1)
            value = quality.max(axis=1)
        found.append(quality)
    assert (found[0].argmax(axis=1) == found[1].argmax(axis=1)).all()
    np.testing.assert_allclose(found[0] - found[1], np.tile(phi[:, None], 3), atol=1e-9)


def test_everything_else_is_the_tasks_own() -> None:
    task = Falling(obstacles=(0.1, 0.2, 0.05), version=4)
    shaped = ShapedTask(task, potential)
    states, actions = (torch.from_numpy(values) for values in episode())
    expected = task.reward(states[:, :-1], actions, states[:, 1:])
    expected = expected + potential(states[:, 1:]) - potential(states[:, :-1])
    np.testing.assert_allclose(shaped.reward(states[:, :-1], actions, states[:, 1:]).numpy(), expected.numpy())
    shaped.check_reward()
    shaped.check_reward(torch)
    assert (shaped.goal, shaped.version, shaped.spheres) == (task.goal, 4, task.spheres)
    assert (shaped.violates(states.numpy()) == task.violates(states.numpy())).all()
    for discount in (0.0, 1.5, np.nan):
        with pytest.raises(ConfigurationError, match="discount"):
            ShapedTask(task, potential, discount)
