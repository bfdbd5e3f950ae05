# SPDX-License-Identifier: Apache-2.0
"""Quadratic programs within a box, by the projected Newton method."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_core.specs import Array

MOST_ITERATIONS = 100
SMALLEST_STEP = 1e-20
STEP_FACTOR = 0.6
ARMIJO = 0.1


@dataclass(frozen=True)
class BoxSolution:
    """Minimiser [m], which of its entries are free (not held by a limit) [m], and the factor of their Hessian."""

    minimiser: Array
    free: NDArray[np.bool_]
    factor: Array

    def solve(self, values: Array) -> Array:
        """H_ff^-1 values [free, k]."""
        return np.asarray(np.linalg.solve(self.factor.T, np.linalg.solve(self.factor, values)))


def box_qp(hessian: Array, linear: Array, lower: Array, upper: Array, start: Array | None = None) -> BoxSolution:
    """Minimises 1/2 d'H d + linear'd over lower <= d <= upper, for a positive definite `hessian` [m, m].

    Tassa, Mansard and Todorov 2014, "Control-limited differential dynamic programming", section III.B (after
    Bertsekas 1982): entries at a limit that the gradient pushes against are held, the others take a Newton step, which
    is projected onto the box and shortened until it pays (Armijo). Raises numpy.linalg.LinAlgError when `hessian` is
    not positive definite.
    """
    factor = _factor(hessian)
    free = np.ones(len(linear), dtype=bool)
    newton = -np.linalg.solve(factor.T, np.linalg.solve(factor, linear))
    if (newton >= lower).all() and (newton <= upper).all():
        return BoxSolution(newton, free, factor)
    point = np.clip(newton if start is None else start, lower, upper)
    value = 0.5 * point @ hessian @ point + linear @ point
    for _ in range(MOST_ITERATIONS):
        gradient = hessian @ point + linear
        held = ((point <= lower) & (gradient > 0.0)) | ((point >= upper) & (gradient < 0.0))
        free = ~held
        if not free.any():
            return BoxSolution(point, free, np.zeros((0, 0)))
        factor = _factor(hessian[np.ix_(free, free)])
        step = np.zeros_like(point)
        step[free] = -np.linalg.solve(factor.T, np.linalg.solve(factor, gradient[free]))
        decrease = -float(gradient @ step)
        if decrease <= 1e-14 * (abs(value) + 1e-300):
            break
        size = 1.0
        while size > SMALLEST_STEP:
            candidate = np.clip(point + size * step, lower, upper)
            reached = 0.5 * candidate @ hessian @ candidate + linear @ candidate
            if value - reached >= ARMIJO * float(gradient @ (point - candidate)):
                break
            size *= STEP_FACTOR
        else:
            break
        if (candidate == point).all():
            break
        point, value = candidate, reached
    return BoxSolution(point, free, factor)


def _factor(matrix: Array) -> Array:
    return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
