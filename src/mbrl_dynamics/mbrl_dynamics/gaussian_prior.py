# SPDX-License-Identifier: Apache-2.0
"""What is known of transitions before a handful of rollouts: normal-inverse-Wishart priors on [x; u; x'].

Levine and Abbeel 2014, "Learning Neural Network Policies with Guided Policy Search under Unknown Dynamics", section 3;
Levine, Finn, Darrell and Abbeel 2016, "End-to-End Training of Deep Visuomotor Policies", appendix A.3.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mbrl_core.dataset import Transitions
from mbrl_core.specs import Array, state_difference
from mbrl_dynamics.gaussian_mixture import GaussianMixture, MixtureConfig, fit_mixture, nearest
from mbrl_dynamics.model import DynamicsModel

TURN = 2.0 * np.pi


@dataclass(frozen=True)
class NormalInverseWishart:
    """Beliefs about Gaussians' means and covariances, one for each leading index.

    The covariance is inverse-Wishart with matrix Phi and n0 + d + 1 degrees of freedom, so that its expectation is
    Phi / n0; the mean, given it, is N(mu0, covariance / m). Both counts say how many observations the belief is worth.

    Attributes:
        mean: mu0 [..., d].
        scale: Phi [..., d, d].
        mean_count: m >= 0.
        scale_count: n0 > 0.
    """

    mean: Array
    scale: Array
    mean_count: float
    scale_count: float

    def posterior(self, points: Array) -> "NormalInverseWishart":
        """After points [..., R, d].

            mu = (m mu0 + R mean) / (m + R)     Phi <- Phi + R S + R m / (R + m) (mean - mu0)(mean - mu0)'

        with S the points' covariance, both counts R more: Gelman et al., "Bayesian Data Analysis", section 3.6. The
        expectation Phi / n0 is then the estimate of Levine and Abbeel.
        """
        count = points.shape[-2]
        average = points.mean(axis=-2)
        centred = points - average[..., None, :]
        scatter = np.swapaxes(centred, -1, -2) @ centred
        apart = average - self.mean
        together = self.mean_count + count
        between = (self.mean_count * count / together) * apart[..., :, None] * apart[..., None, :]
        return NormalInverseWishart(
            (self.mean_count * self.mean + count * average) / together,
            self.scale + scatter + between,
            together,
            self.scale_count + count,
        )

    @property
    def covariance(self) -> Array:
        """The expectation of the covariance [..., d, d]."""
        return np.asarray(self.scale / self.scale_count)


def condition(mean: Array, covariance: Array, inputs: int) -> tuple[Array, Array, Array]:
    """Conditional of the last coordinates, y, of Gaussians N(mean [..., d], covariance [..., d, d]) on the first, z.

    Returns F [..., p, inputs], c [..., p] and N [..., p, p] of y | z ~ N(F z + c, N), with p = d - inputs. Raises
    ValueError when a covariance is not positive definite, with the index.
    """
    scale = np.sqrt(np.einsum("...ii->...i", covariance))
    # Units of their own: the factor of positions in metres beside velocities in rad/s would lose digits.
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = covariance / (scale[..., :, None] * scale[..., None, :])
    try:
        root = np.linalg.cholesky(correlation) * scale[..., :, None]
    except np.linalg.LinAlgError:
        flat = correlation.reshape(-1, *correlation.shape[-2:])
        smallest = np.array([_smallest_eigenvalue(matrix) for matrix in flat])
        index = int(np.argmin(smallest))
        raise ValueError(
            f"joint covariance of step {index} is not positive definite: a smallest eigenvalue of {smallest[index]:.3g}"
            " of the correlations; the prior is too narrow somewhere"
        ) from None
    upper, lower, own = root[..., :inputs, :inputs], root[..., inputs:, :inputs], root[..., inputs:, inputs:]
    slope = np.swapaxes(np.linalg.solve(np.swapaxes(upper, -1, -2), np.swapaxes(lower, -1, -2)), -1, -2)
    offset = mean[..., inputs:] - np.einsum("...ij,...j->...i", slope, mean[..., :inputs])
    return slope, offset, own @ np.swapaxes(own, -1, -2)


class TransitionPrior(Protocol):
    """What a fit of local dynamics asks before it looks at its own data."""

    def beliefs(self, points: Array) -> NormalInverseWishart:
        """For each step, about [x; u; x'] near its points [H, R, 2n + m], angles counted as theirs."""


class MixturePrior:
    """Transitions near those of a step are as a Gaussian mixture over all transitions says.

    mu0 and Phi / n0 are the mean and the covariance of the mixture with its weights replaced by the components' mean
    responsibilities for the step's points (Levine and Abbeel 2014, section 3.2). The mixture is over
    [x; u; x' - x], which says the same in coordinates of the same order of size.
    """

    def __init__(
        self,
        mixture: GaussianMixture,
        state_size: int,
        mean_count: float = 1.0,
        scale_count: float = 1.0,
    ) -> None:
        """`mixture` over [x; u; x' - x], as `fit` makes it; counts m and n0, 1 as in the papers."""
        check_counts(mean_count, scale_count)
        if not 2 * state_size < mixture.means.shape[1]:
            raise ValueError(f"mixture prior: got {mixture.means.shape[1]} coordinates for {state_size} states")
        self.mixture = mixture
        self._states = state_size
        self._counts = (mean_count, scale_count)

    @staticmethod
    def fit(
        transitions: Transitions,
        angular: NDArray[np.bool_],
        seed: int,
        configuration: MixtureConfig | None = None,
        mean_count: float = 1.0,
        scale_count: float = 1.0,
    ) -> "MixturePrior":
        """From all transitions there are. Raises ValueError when they are too few for a mixture."""
        change = state_difference(transitions.next_state, transitions.state, angular)
        points = np.concatenate([transitions.state, transitions.action, change], axis=1)
        periods = np.full(points.shape[1], np.inf)
        periods[: len(angular)][angular] = TURN
        mixture = fit_mixture(points, seed, configuration, periods)
        return MixturePrior(mixture, len(angular), mean_count, scale_count)

    def beliefs(self, points: Array) -> NormalInverseWishart:
        """See TransitionPrior."""
        size = self.mixture.means.shape[1]
        if points.ndim != 3 or points.shape[-1] != size:
            raise ValueError(f"mixture prior: got points {points.shape}, expected [H, R, {size}]")
        back = np.eye(size)
        back[-self._states :, : self._states] += np.eye(self._states)
        changes = np.linalg.solve(back, points.swapaxes(-1, -2)).swapaxes(-1, -2)
        horizon, count, _ = points.shape
        shares = self.mixture.responsibilities(changes.reshape(-1, size)).reshape(horizon, count, -1).mean(axis=1)
        centre = changes.mean(axis=1)
        # Each component in the turn that the step's points are in.
        apart = nearest(self.mixture.means - centre[:, None], self.mixture.periods)
        shift = np.einsum("hk,hkd->hd", shares, apart)
        between = apart - shift[:, None]
        covariance = np.einsum("hk,kde->hde", shares, self.mixture.covariances)
        covariance += np.einsum("hk,hkd,hke->hde", shares, between, between)
        mean_count, scale_count = self._counts
        return NormalInverseWishart(
            (centre + shift) @ back.T, scale_count * (back @ covariance @ back.T), mean_count, scale_count
        )


class EnsemblePrior:
    """Transitions near those of a step are as a learned model says, linearised there.

    Fu, Levine and Abbeel 2016, "One-Shot Learning of Manipulation Skills with Online Dynamics Adaptation and Neural
    Network Priors" (arXiv:1509.06841), section IV, with an ensemble in place of their one network. With inputs z ~
    N(mean of the step's inputs, S) and members that each say f_k + F_k (z - mean), with noise N_k:

        mu0 = [mean of z; mean f_k]     Phi / n0 = [[S, S F'], [F S, F S F' + N]]     F = mean F_k
        N = mean N_k + Cov f_k + mean (F_k - F) S (F_k - F)'

    which are the moments of the members' mixture: where they disagree the prior's noise is greater. S is diagonal, the
    variances of the step's own inputs: the prior then weighs as n0 rollouts that were spread as these are.
    """

    def __init__(
        self,
        model: DynamicsModel,
        mean_count: float = 1.0,
        scale_count: float = 1.0,
        least_spread: float = 0.05,
    ) -> None:
        """Counts m and n0; `least_spread`: standard deviations of S are at least this share of those over all steps."""
        check_counts(mean_count, scale_count)
        if not least_spread > 0.0:
            raise ValueError(f"least_spread: got {least_spread}, expected a positive number")
        self.model = model
        self._counts = (mean_count, scale_count)
        self._least_spread = least_spread

    def beliefs(self, points: Array) -> NormalInverseWishart:
        """See TransitionPrior."""
        states, actions = self.model.spec.state.size, self.model.spec.action.size
        if points.ndim != 3 or points.shape[-1] != 2 * states + actions:
            raise ValueError(
                f"ensemble prior: got points {points.shape}, expected [H, R, {2 * states + actions}] of the robot"
                f" {self.model.spec.name!r}"
            )
        inputs = points[..., : states + actions]
        centre, variance = inputs.mean(axis=1), inputs.var(axis=1)
        typical = variance.mean(axis=0)
        # Where rollouts do not differ at all any small spread does: the slopes are then the model's.
        floor = self._least_spread**2 * np.where(typical > 0.0, typical, 1e-6)
        spread = np.maximum(variance, floor)
        at = torch.as_tensor(centre, dtype=self.model.precision)
        state, action = at[:, :states], at[:, states:]
        slopes = torch.cat(self.model.jacobians(state, action), dim=-1).detach().double().numpy()
        with torch.no_grad():
            predicted = self.model.predict(state, action)
        means, noises = predicted.mean.double().numpy(), predicted.variance.double().numpy()
        # Single precision rounds the state that the change is added to: the state's own digits are those of `centre`.
        means = centre[:, :states] + (means - state.double().numpy())
        slope, mean = slopes.mean(axis=0), means.mean(axis=0)
        off, apart = slopes - slope, means - mean
        members = len(slopes)
        noise = np.einsum("khn,khp->hnp", apart, apart) / members
        noise += np.einsum("khnz,hz,khpz->hnp", off, spread, off) / members
        noise[:, range(states), range(states)] += noises.mean(axis=0)
        # Known dynamics have no noise, yet a joint Gaussian needs some to be one.
        noise[:, range(states), range(states)] += 1e-8 * spread[:, :states]
        cross = slope * spread[:, None, :]
        covariance = np.empty((len(points), points.shape[-1], points.shape[-1]))
        width = states + actions
        covariance[:, :width, :width] = spread[:, :, None] * np.eye(width)
        covariance[:, width:, :width] = cross
        covariance[:, :width, width:] = cross.swapaxes(-1, -2)
        covariance[:, width:, width:] = cross @ slope.swapaxes(-1, -2) + noise
        mean_count, scale_count = self._counts
        return NormalInverseWishart(
            np.concatenate([centre, mean], axis=1), scale_count * covariance, mean_count, scale_count
        )


def check_counts(mean_count: float, scale_count: float) -> None:
    """Raises ValueError unless a prior is worth something."""
    if not (np.isfinite(mean_count) and mean_count >= 0.0 and np.isfinite(scale_count) and scale_count > 0.0):
        raise ValueError(
            f"prior: got mean_count {mean_count} and scale_count {scale_count}, expected at least 0 and more than 0"
        )


def _smallest_eigenvalue(matrix: Array) -> float:
    return float(np.linalg.eigvalsh(matrix)[0]) if np.isfinite(matrix).all() else -np.inf
