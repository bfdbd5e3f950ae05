# SPDX-License-Identifier: Apache-2.0
"""Local dynamics from a handful of rollouts: linear regression at every step, alone or with a prior."""

import numpy as np
from numpy.typing import NDArray

from mbrl_core.dataset import Transitions
from mbrl_core.specs import Array, state_difference
from mbrl_dynamics.gaussian_prior import TransitionPrior, condition
from mbrl_dynamics.local_linear import Chart, LocalDynamics

SAME = 1e-9  # of a matrix's largest singular value: directions with less were not excited at all


def fit_local_dynamics(
    states: Array,
    actions: Array,
    angular: NDArray[np.bool_] | None = None,
    prior: TransitionPrior | None = None,
    regularisation: float = 1e-6,
    chart: Chart | None = None,
) -> LocalDynamics:
    """x_(t+1) ~ N(A_t x_t + B_t u_t + c_t, N_t) for each step, from R rollouts under about the same controller.

    Without a prior, linear regression of the change of state on deviations from the mean, in units of their own
    (standard deviations over all steps), with a ridge of `regularisation` a rollout on the squared slopes: directions
    that no rollout went into change nothing, A = I and B = 0 there. The residuals' covariance is over R - n - m - 1
    degrees of freedom; with exactly n + m + 1 rollouts nothing is left to see noise in, and N is about zero.

    With a prior, the posterior expectation of the Gaussian over [x; u; x'] (`NormalInverseWishart.posterior`),
    conditioned on [x; u]; `regularisation` is not used, and one rollout is enough. N then counts what is not known of
    the slopes as noise.

    Args:
        states: [R, H + 1, n], SI units; angles may be wrapped anywhere.
        actions: [R, H, m], normalised, as they were executed.
        angular: [n], true where a state wraps at 2 pi; default: none does.
        prior: what is known otherwise.
        regularisation: >= 0; with 0, all directions have to be excited.
        chart: counts angles as an earlier model or a controller does, whose trajectory these rollouts are near;
            default: as the first rollout begins. Only where `angular` has any.

    Raises ValueError on shapes that do not fit, non-finite numbers (those of the prior too), fewer than n + m + 1
    rollouts without a prior, or, without a prior and a ridge, on rollouts that do not excite all states and actions of
    a step.
    """
    states, actions, angular = _checked(states, actions, angular)
    rollouts, horizon, inputs = actions.shape[0], actions.shape[1], states.shape[2] + actions.shape[2]
    if not (np.isfinite(regularisation) and regularisation >= 0.0):
        raise ValueError(f"regularisation: got {regularisation}, expected a finite number of at least 0")
    if prior is None and rollouts < inputs + 1:
        raise ValueError(
            f"local dynamics: got {rollouts} rollouts, expected at least {inputs + 1} to regress on {states.shape[2]}"
            f" states, {actions.shape[2]} actions and a constant; with a prior fewer will do"
        )
    if chart is None:
        chart = Chart.around(states, angular)
    elif chart.reference.shape != states.shape[1:] or not np.array_equal(chart.angular, angular):
        raise ValueError(
            f"chart: got reference {chart.reference.shape} and angular {chart.angular.tolist()}, expected"
            f" {states.shape[1:]} and {angular.tolist()}"
        )
    state = chart.unwrapped(states)[:, :-1].swapaxes(0, 1)
    change = state_difference(states[:, 1:], states[:, :-1], angular).swapaxes(0, 1)
    joint = np.concatenate([state, actions.swapaxes(0, 1)], axis=-1)
    if prior is None:
        slope, offset, covariance = _regress(joint, change, regularisation)
        slope[:, :, : states.shape[2]] += np.eye(states.shape[2])
    else:
        points = np.concatenate([joint, state + change], axis=-1)
        beliefs = prior.beliefs(points)
        known = np.isfinite(beliefs.mean).all(axis=1) & np.isfinite(beliefs.scale).all(axis=(1, 2))
        if not known.all():
            raise ValueError(f"local dynamics: the prior has non-finite numbers at step {np.argmin(known)}")
        posterior = beliefs.posterior(points)
        slope, offset, covariance = condition(posterior.mean, posterior.covariance, inputs)
    assert slope.shape == (horizon, states.shape[2], inputs)
    size = states.shape[2]
    return LocalDynamics(
        slope[..., :size].copy(), slope[..., size:].copy(), offset, covariance, chart if angular.any() else None
    )


def rollout_transitions(states: Array, actions: Array) -> Transitions:
    """The R * H transitions of rollouts states [R, H + 1, n], actions [R, H, m], one episode each, from 1."""
    states, actions, _ = _checked(states, actions, None)
    rollouts, horizon, _ = actions.shape
    return Transitions(
        states[:, :-1].reshape(rollouts * horizon, -1),
        actions.reshape(rollouts * horizon, -1),
        states[:, 1:].reshape(rollouts * horizon, -1),
        np.repeat(np.arange(1, rollouts + 1), horizon),
        np.tile(np.arange(horizon), rollouts),
    )


def _regress(inputs: Array, outputs: Array, ridge: float) -> tuple[Array, Array, Array]:
    """Slopes [H, n, p], offsets [H, n] and covariances [H, n, n] of outputs [H, R, n] on inputs [H, R, p]."""
    count, width = inputs.shape[1:]
    input_mean, output_mean = inputs.mean(axis=1), outputs.mean(axis=1)
    centred, wanted = inputs - input_mean[:, None], outputs - output_mean[:, None]
    deviation = np.sqrt(np.square(centred).mean(axis=(0, 1)))
    scale = np.where(deviation > 0.0, deviation, 1.0)
    left, values, right = np.linalg.svd(centred / scale, full_matrices=False)
    if ridge == 0.0:
        excited = (values > SAME * values[:, :1]).sum(axis=1)
        if (excited < width).any():
            step = int(np.argmax(excited < width))
            raise ValueError(
                f"local dynamics: at step {step} the rollouts differ in {excited[step]} directions of states and"
                f" actions, expected {width}: starts or actions without noise of their own need regularisation above 0,"
                " or a prior"
            )
    shrunk = values / (np.square(values) + count * ridge) if ridge > 0.0 else 1.0 / values
    slope = np.einsum("hip,hi,hri,hrn->hnp", right, shrunk, left, wanted, optimize=True) / scale
    residual = wanted - np.einsum("hrp,hnp->hrn", centred, slope)
    covariance = residual.swapaxes(-1, -2) @ residual / max(1, count - width - 1)
    return slope, output_mean - np.einsum("hnp,hp->hn", slope, input_mean), covariance


def _checked(
    states: Array, actions: Array, angular: NDArray[np.bool_] | None
) -> tuple[Array, Array, NDArray[np.bool_]]:
    states, actions = np.asarray(states, dtype=np.float64), np.asarray(actions, dtype=np.float64)
    if states.ndim != 3 or actions.ndim != 3 or 0 in states.shape or 0 in actions.shape:
        raise ValueError(
            f"local dynamics: got states {states.shape} and actions {actions.shape}, expected [rollouts, steps + 1,"
            " state_size] and [rollouts, steps, action_size]"
        )
    if actions.shape[:2] != (states.shape[0], states.shape[1] - 1):
        raise ValueError(
            f"local dynamics: got actions of {actions.shape[0]} rollouts and {actions.shape[1]} steps, expected"
            f" {states.shape[0]} and {states.shape[1] - 1}, as states {states.shape} have"
        )
    for name, values in (("states", states), ("actions", actions)):
        finite = np.isfinite(values).all(axis=2)
        if not finite.all():
            rollout, step = np.argwhere(~finite)[0]
            raise ValueError(f"local dynamics: {name} of rollout {rollout} at step {step} have non-finite numbers")
    angular = np.zeros(states.shape[2], dtype=bool) if angular is None else np.asarray(angular)
    if angular.shape != (states.shape[2],) or angular.dtype != bool:
        raise ValueError(
            f"angular: got {angular.tolist()}, expected {states.shape[2]} times true or false, one for each state"
        )
    return states, actions, angular
