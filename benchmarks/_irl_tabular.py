# SPDX-License-Identifier: Apache-2.0
"""The tabular jobs of the inverse reinforcement learning benchmark."""

import time
from typing import Any

import numpy as np

from mbrl_policy.irl.max_entropy import (
    DeepConfig,
    MaxEntropyConfig,
    deep_max_entropy,
    feature_expectations,
    max_entropy,
)
from mbrl_policy.irl.tabular import optimal_solution, soft_solution, value_difference, visitation
from mbrl_policy.irl.worlds import gridworld, objectworld

GRID, OBJECTS, HORIZON = 16, 32, 30
ELSEWHERE = 10_000  # added to a seed: another objectworld, which the network is tried in


def gridworld_run(seed: int) -> dict[str, Any]:
    """Linear maximum entropy on 16 x 16 cells in 64 blocks, against an expert that never errs."""
    world, begin = gridworld(GRID, HORIZON, seed), time.process_time()
    expert = optimal_solution(world.problem, world.reward).policy
    expected = feature_expectations(world.problem, expert, world.features)
    found = max_entropy(world.problem, world.features, expected, MaxEntropyConfig(tolerance=5e-4))
    soft = soft_solution(world.problem, found.reward).policy
    return {
        "part": "gridworld", "seed": seed,
        "mismatch": float(np.abs(feature_expectations(world.problem, soft, world.features) - expected).max()),
        "value_difference": value_difference(world.problem, world.reward, found.reward),
        "cpu_seconds": round(time.process_time() - begin, 1),
    }  # fmt: skip


def objectworld_run(seed: int) -> dict[str, Any]:
    """Deep maximum entropy on 32 x 32 cells; `elsewhere` is its network's loss in another world, judged by none, and
    `linear` that of a linear reward of the same features.
    """
    world, begin = objectworld(OBJECTS, HORIZON, seed), time.process_time()
    other = objectworld(OBJECTS, HORIZON, seed + ELSEWHERE)
    visits = visitation(world.problem, optimal_solution(world.problem, world.reward).policy).sum(axis=0)
    found, reward_of = deep_max_entropy(world.problem, world.features, visits, DeepConfig(), seed)
    linear = max_entropy(world.problem, world.features, visits @ world.features, MaxEntropyConfig(iterations=300))
    return {
        "part": "objectworld", "seed": seed, "mismatch": found.mismatch,
        "value_difference": value_difference(world.problem, world.reward, found.reward),
        "elsewhere": value_difference(other.problem, other.reward, reward_of(other.features)),
        "linear": value_difference(world.problem, world.reward, linear.reward),
        "cpu_seconds": round(time.process_time() - begin, 1),
    }  # fmt: skip
