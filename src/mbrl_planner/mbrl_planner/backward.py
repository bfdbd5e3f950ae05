# SPDX-License-Identifier: Apache-2.0
"""The backward pass of iLQR and DDP: from an expansion about a trajectory to a feedback law that improves it."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import Array
from mbrl_planner.box_qp import box_qp
from mbrl_planner.expansion import Expansion


class NotConvex(RuntimeError):
    """Q_uu is not positive definite at some step: more regularisation is needed."""


@dataclass(frozen=True)
class Regularisation:
    """What is added where the quadratic model does not hold: `action` [m, m] to Q_uu, `state` to the diagonal of V_xx
    (Tassa, Erez and Todorov 2012, equation 10).
    """

    action: Array
    state: float


@dataclass(frozen=True)
class Improvement:
    """u_t = action_t + share * offsets_t + gains_t (x_t - state_t), and what it should save.

    Attributes:
        offsets: k [H, m].
        gains: K [H, m, n]; zero in the rows of actions that are held at a limit.
        linear, quadratic: the penalty should change by share * linear + share^2 * quadratic.
        curvatures: Q_uu [H, m, m], without regularisation: how sharply the penalty grows with each action.
    """

    offsets: Array
    gains: Array
    linear: float
    quadratic: float
    curvatures: Array

    def expected(self, share: float) -> float:
        """Penalty that `share` of the offsets should save."""
        return -(share * self.linear + share * share * self.quadratic)


def stage_penalties(expansion: Expansion, convex: bool) -> tuple[Array, Array]:
    """Penalty of each step as a function of state and action alone: slope [H, n + m], curvature [H, n + m, n + m].

    l(x, u, y) with y = f(x, u) gives l_z + f_z' l_y and l_zz + l_zy f_z + f_z' l_yz + f_z' l_yy f_z, z = (x, u), less
    the part with second derivatives of f, which goes with the value of the next state. With `convex` negative
    eigenvalues of the curvature become zero. What is not finite in the expansion is not finite in the result.
    """
    jacobian = np.concatenate([expansion.by_state, expansion.by_action], axis=2)
    both = jacobian.shape[-1]
    chain = np.concatenate([np.broadcast_to(np.eye(both), (len(jacobian), both, both)), jacobian], axis=1)
    slope = (np.swapaxes(chain, 1, 2) @ expansion.slope[..., None])[..., 0]
    curvature = np.swapaxes(chain, 1, 2) @ expansion.curvature @ chain
    if convex and np.isfinite(curvature).all():
        values, vectors = np.linalg.eigh(curvature)
        if values.min() < 0.0:
            curvature = (vectors * np.maximum(values, 0.0)[:, None]) @ np.swapaxes(vectors, 1, 2)
    return slope, curvature


def backward_pass(
    expansion: Expansion,
    stage: tuple[Array, Array],
    actions: Array,
    limits: tuple[Array, Array],
    regularisation: Regularisation,
) -> Improvement:
    """Dynamic programming from the last step back, about a trajectory with `actions` [H, m] within `limits` ([m], [m]).

    With l the penalty of `stage_penalties` and V that of the steps that follow (V = 0 after the last), z = (x, u):

        Q_z = l_z + f_z'V_x,    Q_zz = l_zz + f_z'V_xx f_z (+ (V_x + l_y) . f_zz where the expansion has it: DDP)
        k = argmin 1/2 k'Q_uu k + k'Q_u within the limits,    K_free = -Q_uu,free^-1 Q_ux,free,    K_held = 0
        V_x = Q_x + K'Q_uu k + K'Q_u + Q_ux'k,    V_xx = Q_xx + K'Q_uu K + K'Q_ux + Q_ux'K

    (Tassa et al. 2012, equations 5, 6 and 11; 2014, section III.) Raises NotConvex.
    """
    slopes, curvatures = stage
    horizon, size = len(actions), expansion.by_state.shape[-1]
    jacobian = np.concatenate([expansion.by_state, expansion.by_action], axis=2)
    lower, upper = limits[0] - actions, limits[1] - actions
    offsets, gains = np.zeros_like(actions), np.zeros((horizon, actions.shape[1], size))
    by_action = np.empty((horizon, actions.shape[1], actions.shape[1]))
    value_slope, value = np.zeros(size), np.zeros((size, size))
    linear = quadratic = 0.0
    for step in reversed(range(horizon)):
        by = jacobian[step]
        q = slopes[step] + by.T @ value_slope
        curvature = curvatures[step]
        if expansion.dynamics_hessian is not None:
            weight = value_slope + expansion.slope[step, -size:]
            curvature = curvature + np.tensordot(weight, expansion.dynamics_hessian[step], axes=1)
        damped = curvature + by.T @ (value + regularisation.state * np.eye(size)) @ by
        curvature = curvature + by.T @ value @ by
        try:
            solution = box_qp(damped[size:, size:] + regularisation.action, q[size:], lower[step], upper[step])
        except np.linalg.LinAlgError:
            raise NotConvex(f"Q_uu is not positive definite at step {step}") from None
        offset, gain = solution.minimiser, gains[step]
        if solution.free.any():
            gain[solution.free] = -solution.solve(damped[size:, :size][solution.free])
        offsets[step] = offset
        q_uu, q_ux = curvature[size:, size:], curvature[size:, :size]
        by_action[step] = q_uu
        linear += float(offset @ q[size:])
        quadratic += 0.5 * float(offset @ q_uu @ offset)
        value_slope = q[:size] + gain.T @ (q_uu @ offset + q[size:]) + q_ux.T @ offset
        cross = gain.T @ q_ux
        value = curvature[:size, :size] + gain.T @ q_uu @ gain + cross + cross.T
        value = 0.5 * (value + value.T)
    if not (np.isfinite(gains).all() and np.isfinite(offsets).all()):
        raise NotConvex("the backward pass has non-finite numbers")
    return Improvement(offsets, gains, linear, quadratic, by_action)
