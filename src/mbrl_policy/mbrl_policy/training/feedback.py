# SPDX-License-Identifier: Apache-2.0
"""Linear feedback that holds a robot on a trajectory."""

import numpy as np

from mbrl_core.specs import Array

LEAST_SCALE = 1e-3  # of a state variable, as a share of the largest: one that hardly moves is not held at any price


def states_spread(states: Array) -> Array:
    """Standard deviations [n] of states [N, n], of a trajectory or of many: what leaving one is measured by."""
    spread = states.std(axis=0)
    return np.asarray(np.maximum(spread, LEAST_SCALE * max(spread.max(), 1e-12)))


def tracking_gains(a: Array, b: Array, q: Array, r: Array) -> Array:
    """K [T, m, n] of u = û + K (x - x̂) for x' = A_t x + B_t u: a [T, n, n], b [T, n, m], costs q [n, n], r [m, m] of
    every step and of the last state (Anderson and Moore 1990, "Optimal control: linear quadratic methods", chapter 2).

    After the last step the last linearisation is taken to hold for T more, so that the end of an episode is held as if
    it were not. Raises LinAlgError where a step's R + B'VB is singular.
    """
    value = q
    for _ in range(len(a)):
        value, _ = _step_back(a[-1], b[-1], q, r, value)
    gains = np.empty((len(a), b.shape[2], a.shape[1]))
    for step in range(len(a) - 1, -1, -1):
        value, gains[step] = _step_back(a[step], b[step], q, r, value)
    return gains


def _step_back(a: Array, b: Array, q: Array, r: Array, value: Array) -> tuple[Array, Array]:
    gain = np.asarray(-np.linalg.solve(r + b.T @ value @ b, b.T @ value @ a), dtype=np.float64)
    before = q + a.T @ value @ (a + b @ gain)
    return 0.5 * (before + before.T), gain
