# SPDX-License-Identifier: Apache-2.0
"""Linear-quadratic control: finite and infinite horizon, time-varying, with affine and cross terms.

Dynamics and penalty (the reward is minus the penalty) of step t:

    x_(t+1) = A_t x_t + B_t u_t + c_t
    l_t = 1/2 x'Q_t x + u'S_t x + 1/2 u'R_t u + q_t'x + r_t'u

and the value, the least penalty still to come, is 1/2 x'V_t x + v_t'x + constant. Numbers are those of Bertsekas,
"Dynamic Programming and Optimal Control", volume 1, chapter 3.1, and Anderson and Moore, "Optimal Control: Linear
Quadratic Methods", chapters 2 to 4.
"""

from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import Array

MOST_DOUBLINGS = 60  # the error is squared by each


class RiccatiError(ValueError):
    """A problem without a finite optimum or without a stabilising controller. The text says which and where."""


@dataclass(frozen=True)
class LinearDynamics:
    """matrix A [..., n, n], control B [..., n, m], offset c [..., n]; a leading dimension [H] when they vary."""

    matrix: Array
    control: Array
    offset: Array


@dataclass(frozen=True)
class QuadraticPenalty:
    """Q [..., n, n], S [..., m, n], R [..., m, m], q [..., n], r [..., m]; Q and R symmetric."""

    state: Array
    cross: Array
    action: Array
    state_linear: Array
    action_linear: Array


@dataclass(frozen=True)
class LinearController:
    """u_t = gains_t x + offsets_t and the value of following it.

    Attributes:
        gains: [H, m, n], or [m, n] for an infinite horizon.
        offsets: [H, m], or [m].
        value: V [H + 1, n, n], or [n, n].
        value_linear: v [H + 1, n], or [n].
    """

    gains: Array
    offsets: Array
    value: Array
    value_linear: Array


def finite_horizon(
    dynamics: LinearDynamics,
    penalty: QuadraticPenalty,
    horizon: int,
    final_state: Array | None = None,
    final_linear: Array | None = None,
) -> LinearController:
    """Backward recursion over `horizon` >= 1 steps; V_H is `final_state` [n, n] and v_H `final_linear` [n], default 0.

        Q_xx = Q + A'VA    Q_ux = S + B'VA    Q_uu = R + B'VB    q_x = q + A'(Vc + v)    q_u = r + B'(Vc + v)
        K = -Q_uu^-1 Q_ux  k = -Q_uu^-1 q_u   V <- Q_xx + Q_ux'K  v <- q_x + K'q_u

    Raises RiccatiError when Q_uu is not positive definite at some step: more action then always pays. Raises
    ValueError on shapes that do not fit.
    """
    if horizon < 1:
        raise ValueError(f"horizon: got {horizon}, expected at least 1")
    states, actions = _check(dynamics, penalty, horizon)
    gains, offsets = np.empty((horizon, actions, states)), np.empty((horizon, actions))
    value, value_linear = np.empty((horizon + 1, states, states)), np.empty((horizon + 1, states))
    value[horizon] = 0.0 if final_state is None else _symmetric(final_state)
    value_linear[horizon] = 0.0 if final_linear is None else final_linear
    for step in reversed(range(horizon)):
        a, b, c = (_at(item, step, rank) for item, rank in zip(vars(dynamics).values(), (2, 2, 1), strict=True))
        q, s, r, q_linear, r_linear = (
            _at(item, step, rank) for item, rank in zip(vars(penalty).values(), (2, 2, 2, 1, 1), strict=True)
        )
        following = value[step + 1]
        slope = following @ c + value_linear[step + 1]
        by_state, by_action = q_linear + a.T @ slope, r_linear + b.T @ slope
        cross = s + b.T @ following @ a
        factor = _cholesky(r + b.T @ following @ b, f"step {step}")
        gains[step] = -_solve(factor, cross)
        offsets[step] = -_solve(factor, by_action)
        value[step] = _symmetric(q + a.T @ following @ a + cross.T @ gains[step])
        value_linear[step] = by_state + gains[step].T @ by_action
    return LinearController(gains, offsets, value, value_linear)


def infinite_horizon(dynamics: LinearDynamics, penalty: QuadraticPenalty) -> LinearController:
    """The stationary controller that minimises the mean penalty; arguments without a leading dimension.

    The Riccati equation V = Q + A'VA - (S + B'VA)'(R + B'VB)^-1 (S + B'VA) is solved by the structure-preserving
    doubling algorithm (Chu, Fan, Lin and Wang 2004, "Structure-preserving algorithms for periodic discrete-time
    algebraic Riccati equations"), whose error is squared by every iteration; v then solves a linear system.

    Raises RiccatiError when R is not positive definite or no controller stabilises the system while it pays to.
    """
    states, _ = _check(dynamics, penalty, None)
    a, b, c = dynamics.matrix, dynamics.control, dynamics.offset
    # u = w - R^-1 S x removes the cross term.
    factor = _cholesky(penalty.action, "R")
    shift = _solve(factor, penalty.cross)
    matrix = a - b @ shift
    gain = _symmetric(b @ _solve(factor, b.T))
    value = _symmetric(penalty.state - penalty.cross.T @ shift)
    identity = np.eye(states)
    for _ in range(MOST_DOUBLINGS):
        try:
            inner = np.linalg.solve(identity + gain @ value, np.concatenate([matrix, gain], axis=1))
        except np.linalg.LinAlgError:
            raise RiccatiError("the Riccati equation has no stabilising solution: singular doubling") from None
        by_matrix, by_gain = inner[:, :states], inner[:, states:]
        with np.errstate(over="ignore", invalid="ignore"):  # where there is no solution; looked at below
            change = _symmetric(matrix.T @ value @ by_matrix)
            gain = _symmetric(gain + matrix @ by_gain @ matrix.T)
            value = value + change
            matrix = matrix @ by_matrix
        if not np.isfinite(value).all() or np.abs(change).max() <= 1e-14 * max(np.abs(value).max(), 1e-300):
            break
    if not np.isfinite(value).all():
        raise RiccatiError("the Riccati equation has no finite solution: can the system be stabilised?")
    factor = _cholesky(penalty.action + b.T @ value @ b, "R + B'VB")
    gains = -_solve(factor, penalty.cross + b.T @ value @ a)
    closed = a + b @ gains
    radius = float(np.abs(np.linalg.eigvals(closed)).max())
    if not radius < 1.0:
        raise RiccatiError(f"no stabilising controller found: spectral radius {radius:.6g}, expected below 1")
    slope = penalty.state_linear + gains.T @ penalty.action_linear + closed.T @ value @ c
    value_linear = np.asarray(np.linalg.solve(identity - closed.T, slope), dtype=np.float64)
    offsets = -_solve(factor, penalty.action_linear + b.T @ (value @ c + value_linear))
    return LinearController(gains, offsets, value, value_linear)


def _check(dynamics: LinearDynamics, penalty: QuadraticPenalty, horizon: int | None) -> tuple[int, int]:
    """Sizes of state and action. Raises ValueError on shapes that do not fit."""
    states, actions = dynamics.control.shape[-2:]
    expected = {
        "matrix": (dynamics.matrix, (states, states)),
        "control": (dynamics.control, (states, actions)),
        "offset": (dynamics.offset, (states,)),
        "state": (penalty.state, (states, states)),
        "cross": (penalty.cross, (actions, states)),
        "action": (penalty.action, (actions, actions)),
        "state_linear": (penalty.state_linear, (states,)),
        "action_linear": (penalty.action_linear, (actions,)),
    }
    for name, (values, shape) in expected.items():
        if values.shape != shape and (horizon is None or values.shape != (horizon, *shape)):
            raise ValueError(
                f"{name}: got shape {values.shape}, expected {shape}{'' if horizon is None else ' a step'}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: has non-finite numbers")
    return states, actions


def _at(values: Array, step: int, rank: int) -> Array:
    return values[step] if values.ndim > rank else values


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.T)


def _cholesky(matrix: Array, where: str) -> Array:
    try:
        return np.asarray(np.linalg.cholesky(_symmetric(matrix)), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise RiccatiError(f"the weight of actions is not positive definite at {where}: {matrix.tolist()}") from None


def _solve(factor: Array, values: Array) -> Array:
    """(L L')^-1 values."""
    return np.asarray(np.linalg.solve(factor.T, np.linalg.solve(factor, values)))
