# SPDX-License-Identifier: Apache-2.0
"""Linear-quadratic control against scipy's Riccati solver, against brute force, and on problems that have no answer."""

import numpy as np
import pytest
import scipy.linalg
from numpy.random import Generator

from mbrl_planner.lqr import (
    LinearController,
    LinearDynamics,
    QuadraticPenalty,
    RiccatiError,
    finite_horizon,
    infinite_horizon,
)


def positive(random: Generator, size: int, least: float = 0.1) -> np.ndarray:
    root = random.normal(size=(size, size))
    return root @ root.T + least * np.eye(size)


def problem(
    seed: int, states: int, actions: int, steps: tuple[int, ...] = ()
) -> tuple[LinearDynamics, QuadraticPenalty]:
    """A problem with every term; `steps` is () or (H,). The whole penalty is convex in state and action together."""
    random = np.random.default_rng(seed)
    whole = [positive(random, states + actions) for _ in range(int(np.prod(steps)))]
    joint = np.array(whole).reshape(*steps, states + actions, states + actions)
    dynamics = LinearDynamics(
        random.normal(size=(*steps, states, states)),
        random.normal(size=(*steps, states, actions)),
        random.normal(size=(*steps, states)),
    )
    penalty = QuadraticPenalty(
        joint[..., :states, :states],
        joint[..., states:, :states],
        joint[..., states:, states:],
        random.normal(size=(*steps, states)),
        random.normal(size=(*steps, actions)),
    )
    return dynamics, penalty


@pytest.mark.parametrize(("states", "actions"), [(1, 1), (2, 1), (4, 2), (8, 3)])
@pytest.mark.parametrize("seed", range(5))
def test_infinite_horizon_is_that_of_scipy(seed: int, states: int, actions: int) -> None:
    dynamics, penalty = problem(seed, states, actions)
    controller = infinite_horizon(dynamics, penalty)
    expected = scipy.linalg.solve_discrete_are(
        dynamics.matrix, dynamics.control, penalty.state, penalty.action, s=penalty.cross.T
    )
    np.testing.assert_allclose(controller.value, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("seed", range(3))
def test_long_finite_horizons_come_to_the_infinite_one(seed: int) -> None:
    dynamics, penalty = problem(seed, 3, 2)
    endless = infinite_horizon(dynamics, penalty)
    long = finite_horizon(dynamics, penalty, 400)
    for name in vars(endless):
        np.testing.assert_allclose(getattr(long, name)[0], getattr(endless, name), rtol=1e-8, atol=1e-8)


def total_penalty(
    dynamics: LinearDynamics,
    penalty: QuadraticPenalty,
    final: tuple[np.ndarray, np.ndarray],
    x: np.ndarray,
    us: np.ndarray,
) -> float:
    total = 0.0
    for step, u in enumerate(us):
        total += float(
            0.5 * x @ penalty.state[step] @ x
            + u @ penalty.cross[step] @ x
            + 0.5 * u @ penalty.action[step] @ u
            + penalty.state_linear[step] @ x
            + penalty.action_linear[step] @ u
        )
        x = dynamics.matrix[step] @ x + dynamics.control[step] @ u + dynamics.offset[step]
    return total + float(0.5 * x @ final[0] @ x + final[1] @ x)


@pytest.mark.parametrize("seed", range(5))
def test_finite_horizon_is_the_minimum_of_the_whole_quadratic(seed: int) -> None:
    states, actions, horizon = 3, 2, 5
    dynamics, penalty = problem(seed, states, actions, (horizon,))
    random = np.random.default_rng(100 + seed)
    final, start = (positive(random, states), random.normal(size=states)), random.normal(size=states)
    controller = finite_horizon(dynamics, penalty, horizon, *final)
    x, us = start, []
    for step in range(horizon):
        us.append(controller.gains[step] @ x + controller.offsets[step])
        x = dynamics.matrix[step] @ x + dynamics.control[step] @ us[-1] + dynamics.offset[step]
    found = np.array(us)
    # The penalty is a quadratic function of all actions: its gradient, exact by central differences, vanishes.
    best = total_penalty(dynamics, penalty, final, start, found)
    for index in np.ndindex(found.shape):
        shift = np.zeros_like(found)
        shift[index] = 1e-3
        ahead = total_penalty(dynamics, penalty, final, start, found + shift)
        behind = total_penalty(dynamics, penalty, final, start, found - shift)
        assert ahead > best and behind > best
        assert abs(ahead - behind) < 1e-6 * (ahead + behind - 2.0 * best + 1e-3)
    # And the value function says by how much another start is worse.
    other = random.normal(size=states)
    x, us = other, []
    for step in range(horizon):
        us.append(controller.gains[step] @ x + controller.offsets[step])
        x = dynamics.matrix[step] @ x + dynamics.control[step] @ us[-1] + dynamics.offset[step]
    difference = total_penalty(dynamics, penalty, final, other, np.array(us)) - best

    def value(state: np.ndarray) -> float:
        return float(0.5 * state @ controller.value[0] @ state + controller.value_linear[0] @ state)

    assert value(other) - value(start) == pytest.approx(difference, rel=1e-8)


def simple(**changes: np.ndarray) -> tuple[LinearDynamics, QuadraticPenalty]:
    values = {
        "matrix": np.array([[2.0]]), "control": np.eye(1), "offset": np.zeros(1), "state": np.eye(1),
        "cross": np.zeros((1, 1)), "action": np.eye(1), "state_linear": np.zeros(1), "action_linear": np.zeros(1),
    } | changes  # fmt: skip
    return LinearDynamics(*list(values.values())[:3]), QuadraticPenalty(*list(values.values())[3:])


def test_a_scalar_problem_by_hand() -> None:
    # V = 1 + 4 V - 4 V^2 / (1 + V)  <=>  V^2 - 4 V - 1 = 0.
    controller: LinearController = infinite_horizon(*simple())
    assert controller.value[0, 0] == pytest.approx(2.0 + np.sqrt(5.0))
    # One step to go: u has nothing to win.
    assert finite_horizon(*simple(), 1).gains[0, 0, 0] == 0.0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"control": np.zeros((1, 1))}, "no finite solution|no stabilising"),
        ({"action": -np.eye(1)}, "not positive definite at R"),
    ],
)
def test_problems_without_an_answer_say_so(changes: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(RiccatiError, match=text):
        infinite_horizon(*simple(**changes))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(RiccatiError, match="not positive definite at step 3"):
        finite_horizon(*simple(action=np.zeros((1, 1))), 4)
    with pytest.raises(ValueError, match=r"cross: got shape \(2, 1\), expected \(1, 1\)"):
        finite_horizon(*simple(cross=np.zeros((2, 1))), 4)
    with pytest.raises(ValueError, match="offset: has non-finite"):
        infinite_horizon(*simple(offset=np.array([np.nan])))
    with pytest.raises(ValueError, match="horizon: got 0"):
        finite_horizon(*simple(), 0)
