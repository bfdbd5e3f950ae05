# SPDX-License-Identifier: Apache-2.0
"""A policy near a trajectory as a time-varying linear-Gaussian controller."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_dynamics.local_linear import check_array, check_covariances
from mbrl_policy.linear_gaussian import LinearGaussianController


@dataclass(frozen=True)
class LineariseConfig:
    """Parameters of the regression."""

    window: int = parameter(
        3, "steps before and after a step whose states and actions make its prior", minimum=0, maximum=1000
    )
    strength: float = parameter(
        2.0, "rollouts that the prior counts for; 0 is least squares with the ridge alone", minimum=0.0
    )
    ridge: float = parameter(
        1e-6, "added to the variance of states, as a share of each one's over the whole trajectory", minimum=1e-12
    )


def linearise_policy(
    states: Array, policy_means: Array, covariances: Array, config: LineariseConfig | None = None
) -> LinearGaussianController:
    """Regression of a policy's mean answers on the states at each step.

    `states` [R, H + 1, n] (or [R, H, n]) of R >= 1 rollouts, angles unwrapped; `policy_means` [R, H, m], what the
    policy answers there; `covariances` [m, m], [H, m, m] or [R, H, m, m], its noise, averaged over rollouts.

    States and answers of a step are taken to be jointly Gaussian with a normal-inverse-Wishart prior, and conditioned,
    as Levine and Abbeel 2014 do for dynamics and Levine et al. 2016 ("End-to-end training of deep visuomotor policies")
    for policies. With the moments of N rollouts and a prior of mean mu0 and covariance Phi0 that counts for n0,

        S = (n0 Phi0 + N cov + N n0 / (N + n0) (mean - mu0)(mean - mu0)') / (N + n0)
        mu = (N mean + n0 mu0) / (N + n0)
        K = S_ux (S_xx + ridge)^-1,   k = mu_u - K mu_x,   Sigma = mean noise + S_uu - K S_xu

    The prior is the steps within `window`: the policy is the same at all of them. A policy that is linear comes out
    exactly, but for the ridge, in all directions that the states go; in others K is zero.

    Raises ValueError on shapes that do not fit, numbers that are not finite and covariances that are not positive
    definite.
    """
    config = config or LineariseConfig()
    if policy_means.ndim != 3 or 0 in policy_means.shape or states.ndim != 3:
        raise ValueError(
            f"got states {states.shape} and policy means {policy_means.shape}, expected [R, H + 1, n] and [R, H, m]"
        )
    rollouts, horizon, actions = policy_means.shape
    size = states.shape[-1]
    check_array("policy means", policy_means, policy_means.shape)
    check_array("states", states, (rollouts, horizon + (states.shape[1] == horizon + 1), size))
    noise = _noise(covariances, rollouts, horizon, actions)
    points = np.concatenate([states[:, :horizon], policy_means], axis=-1)
    spread = points[..., :size].reshape(-1, size).var(axis=0)
    # A state that never changes says nothing; any positive number keeps its row of S_xx regular.
    ridge = config.ridge * np.where(spread > 0.0, spread, 1.0)
    gains, offsets = np.empty((horizon, actions, size)), np.empty((horizon, actions))
    sigma = np.empty((horizon, actions, actions))
    for step in range(horizon):
        mean, joint = _posterior(points, step, config)
        by_state = joint[:size, :size] + np.diag(ridge)
        gains[step] = np.linalg.solve(by_state, joint[:size, size:]).T
        offsets[step] = mean[size:] - gains[step] @ mean[:size]
        # With the ridge the residual of this K is not that of the best one.
        cross = gains[step] @ joint[:size, size:]
        residual = joint[size:, size:] - cross - cross.T + gains[step] @ joint[:size, :size] @ gains[step].T
        sigma[step] = noise[step] + 0.5 * (residual + residual.T)
    return LinearGaussianController(gains, offsets, sigma)


def _posterior(points: Array, step: int, config: LineariseConfig) -> tuple[Array, Array]:
    """Mean [n + m] and covariance of the points [R, H, n + m] at `step`, prior included."""
    here = points[:, step]
    count, mean = len(here), here.mean(axis=0)
    around = points[:, max(step - config.window, 0) : step + config.window + 1].reshape(-1, points.shape[-1])
    prior_mean = around.mean(axis=0)
    prior = (around - prior_mean).T @ (around - prior_mean) / len(around)
    strength, total = config.strength, count + config.strength
    between = np.outer(mean - prior_mean, mean - prior_mean) * count * strength / total
    joint = (strength * prior + (here - mean).T @ (here - mean) + between) / total
    return (count * mean + strength * prior_mean) / total, joint


def _noise(covariances: Array, rollouts: int, horizon: int, actions: int) -> Array:
    """[H, m, m]."""
    shapes = ((actions, actions), (horizon, actions, actions), (rollouts, horizon, actions, actions))
    if covariances.shape not in shapes:
        raise ValueError(f"policy covariances: got shape {covariances.shape}, expected one of {shapes}")
    check_array("policy covariances", covariances, covariances.shape)
    check_covariances("policy covariances", covariances)
    if (np.linalg.eigvalsh(covariances) <= 0.0).any():
        raise ValueError("policy covariances: singular, expected positive definite ones")
    averaged = covariances.mean(axis=0) if covariances.ndim == 4 else covariances
    return np.asarray(np.broadcast_to(averaged, (horizon, actions, actions)))
