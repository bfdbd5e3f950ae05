# SPDX-License-Identifier: Apache-2.0
"""The worlds that tabular inverse reinforcement learning is measured on.

Both are grids with five actions, to stay and to the four sides; with a probability of 0.3 a random one is taken
instead (Levine, Popovic and Koltun 2011, "Nonlinear inverse reinforcement learning with Gaussian processes").
"""

from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import Array
from mbrl_policy.irl.tabular import TabularProblem

MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
SLIP = 0.3


@dataclass(frozen=True)
class World:
    """A problem, features [S, F] of its states, and the reward [S] that an expert knows. State: row * size + column."""

    problem: TabularProblem
    features: Array
    reward: Array
    size: int


def grid_problem(size: int, horizon: int, slip: float = SLIP, start: Array | None = None) -> TabularProblem:
    """A square grid; at its border one stays. `start` [S] is uniform where None. Raises ValueError."""
    if size < 1 or not 0.0 <= slip <= 1.0:
        raise ValueError(f"grid: got size {size} and slip {slip}, expected at least 1 and 0 to 1")
    states, actions = size * size, len(MOVES)
    row, column = np.divmod(np.arange(states), size)
    moved = np.stack(
        [np.clip(row + down, 0, size - 1) * size + np.clip(column + right, 0, size - 1) for down, right in MOVES],
        axis=1,
    )
    successors = np.repeat(moved[:, None], actions, axis=1)
    probabilities = np.tile((1.0 - slip) * np.eye(actions) + slip / actions, (states, 1, 1))
    first = np.full(states, 1.0 / states) if start is None else start
    return TabularProblem(successors, probabilities, first, horizon)


def gridworld(size: int, horizon: int, seed: int, block: int = 2) -> World:
    """Blocks of `block` x `block` cells, one feature each; three in ten of them have a reward, drawn from (0, 1]."""
    random = np.random.default_rng(seed)
    across = -(-size // block)
    row, column = np.divmod(np.arange(size * size), size)
    features = np.eye(across * across)[(row // block) * across + column // block]
    weights = random.uniform(0.0, 1.0, across * across) * (random.random(across * across) < 0.3)
    weights[random.integers(len(weights))] = 1.0  # never a world without anything to gain
    return World(grid_problem(size, horizon), features, features @ weights, size)


def objectworld(size: int, horizon: int, seed: int, objects: int = 0, colours: int = 2) -> World:
    """Objects of an inner and an outer colour lie about (Levine et al. 2011, section 5.2).

    The reward is 1 within 3 cells of an object of outer colour 0 and 2 cells of one of outer colour 1, -1 within 3
    cells of outer colour 0 alone, else 0: no linear function of the features, which are the distances to the nearest
    object of each inner and of each outer colour [S, 2 colours]. Inner colours mean nothing. `objects` is 1 in 20
    cells where 0. Raises ValueError.
    """
    count = objects or max(2 * colours, size * size // 20)
    if colours < 2 or not 2 * colours <= count <= size * size:
        raise ValueError(
            f"objectworld: got {count} objects of {colours} colours, expected at least 2 colours, 2 objects of each,"
            f" and at most {size * size} objects"
        )
    random = np.random.default_rng(seed)
    places = random.choice(size * size, count, replace=False)
    inner, outer = (random.permutation(np.arange(count) % colours) for _ in range(2))
    cells = np.stack(np.divmod(np.arange(size * size), size), axis=1).astype(np.float64)
    distance = np.linalg.norm(cells[:, None] - cells[places], axis=2)
    features = np.stack(
        [distance[:, kind == colour].min(axis=1) for kind in (inner, outer) for colour in range(colours)], axis=1
    )
    first, second = features[:, colours] <= 3.0, features[:, colours + 1] <= 2.0
    reward = np.where(first & second, 1.0, np.where(first, -1.0, 0.0))
    return World(grid_problem(size, horizon), features, reward, size)
