# SPDX-License-Identifier: Apache-2.0
"""What is known of transitions before a handful of rollouts: normal-inverse-Wishart priors on [x; u; x'].

Levine and Abbeel 2014, "Learning Neural Network Policies with Guided Policy Search under Unknown Dynamics";
Levine, Finn, Darrell and Abbeel 2016, "End-to-End Training of Deep Visuomotor Policies", appendix A.3.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mbrl_core.config import parameter
from mbrl_core.dataset import Transitions
from mbrl_core.specs import Array, state_difference
from mbrl_dynamics.gaussian_mixture import GaussianMixture, MixtureConfig, fit_mixture, nearest
from mbrl_dynamics.model import DynamicsModel

TURN = 2.0 * np.pi
LEAST_NOISE = 1e-8  # of the states' variances


@dataclass(frozen=True)
class PriorConfig:
    """What a prior is worth. Counts of about 1 are those of the code published with the papers, cbfinn/gps."""

    mean_count: float = parameter(1.0, "m: observations that the prior's mean is worth", minimum=0.0)
    scale_count: float = parameter(1.0, "n0: observations that the prior's covariance is worth", minimum=1e-9)
    own_spread: bool = parameter(False, "a mixture gives slopes at the rollouts' own spread, not at its own")
    least_spread: float = parameter(
        0.05, "own spread at each step is at least this share of that over all steps", minimum=1e-9
    )


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
    responsibilities for the step's points (Levine et al. 2016, appendix A.3). The mixture is over [x; u; x' - x], which
    says the same in coordinates of the same order of size.

    With `own_spread` the mixture gives slopes and noise only, at the spread of the step's own inputs (`linearised`):
    where the mixture is much wider than the rollouts it would else outweigh many of them.
    """

    def __init__(self, mixture: GaussianMixture, state_size: int, configuration: PriorConfig | None = None) -> None:
        """`mixture` over [x; u; x' - x], as `fit` makes it."""
        if not 2 * state_size < mixture.means.shape[1]:
            raise ValueError(f"mixture prior: got {mixture.means.shape[1]} coordinates for {state_size} states")
        self.mixture = mixture
        self.configuration = _checked(configuration)
        self._states = state_size

    @staticmethod
    def fit(
        transitions: Transitions,
        angular: NDArray[np.bool_],
        seed: int,
        configuration: PriorConfig | None = None,
        mixture: MixtureConfig | None = None,
    ) -> "MixturePrior":
        """From all transitions there are; `angular` [n]. Raises ValueError when they are too few for a mixture."""
        if angular.shape != transitions.state.shape[1:]:
            raise ValueError(
                f"mixture prior: got angular {angular.tolist()}, expected {transitions.state.shape[1]} of them"
            )
        change = state_difference(transitions.next_state, transitions.state, angular)
        points = np.concatenate([transitions.state, transitions.action, change], axis=1)
        periods = np.full(points.shape[1], np.inf)
        periods[: len(angular)][angular] = TURN
        return MixturePrior(fit_mixture(points, seed, mixture, periods), len(angular), configuration)

    def beliefs(self, points: Array) -> NormalInverseWishart:
        """See TransitionPrior."""
        size = self.mixture.means.shape[1]
        if points.ndim != 3 or points.shape[-1] != size:
            raise ValueError(f"mixture prior: got points {points.shape}, expected [H, R, {size}]")
        # Of [x; u; x' - x] from [x; u; x'], and back.
        forth, back = np.eye(size), np.eye(size)
        forth[-self._states :, : self._states] -= np.eye(self._states)
        back[-self._states :, : self._states] += np.eye(self._states)
        changes = points @ forth.T
        horizon, count, _ = points.shape
        shares = self.mixture.responsibilities(changes.reshape(-1, size)).reshape(horizon, count, -1).mean(axis=1)
        centre = changes.mean(axis=1)
        # Each component in the turn that the step's points are in.
        apart = nearest(self.mixture.means - centre[:, None], self.mixture.periods)
        shift = np.einsum("hk,hkd->hd", shares, apart)
        between = apart - shift[:, None]
        covariance = np.einsum("hk,kde->hde", shares, self.mixture.covariances)
        covariance += np.einsum("hk,hkd,hke->hde", shares, between, between, optimize=True)
        mean, covariance = (centre + shift) @ back.T, back @ covariance @ back.T
        if self.configuration.own_spread:
            inputs = points[..., : size - self._states]
            slope, offset, noise = condition(mean, covariance, inputs.shape[-1])
            following = np.einsum("hpz,hz->hp", slope, inputs.mean(axis=1)) + offset
            return linearised(inputs, slope, following, noise, self.configuration)
        counts = self.configuration
        return NormalInverseWishart(mean, counts.scale_count * covariance, counts.mean_count, counts.scale_count)


class EnsemblePrior:
    """Transitions near those of a step are as a learned model says, linearised there.

    Fu, Levine and Abbeel 2016, "One-Shot Learning of Manipulation Skills with Online Dynamics Adaptation and Neural
    Network Priors" (arXiv:1509.06841), with an ensemble in place of their one network. At the mean of a step's inputs
    the members say f_k + F_k (z - mean) with noise N_k, whose mixture has

        f = mean f_k     F = mean F_k     N = mean N_k + Cov f_k + mean (F_k - F) S (F_k - F)'

    and is taken to be Gaussian (`linearised`): where the members disagree the prior's noise is greater.
    """

    def __init__(self, model: DynamicsModel, configuration: PriorConfig | None = None) -> None:
        """Any kind of model that has been fitted, or known dynamics."""
        self.model = model
        self.configuration = _checked(configuration)

    def beliefs(self, points: Array) -> NormalInverseWishart:
        """See TransitionPrior."""
        states, actions = self.model.spec.state.size, self.model.spec.action.size
        if points.ndim != 3 or points.shape[-1] != 2 * states + actions:
            raise ValueError(
                f"ensemble prior: got points {points.shape}, expected [H, R, {2 * states + actions}] of the robot"
                f" {self.model.spec.name!r}"
            )
        inputs = points[..., : states + actions]
        centre, variances = inputs.mean(axis=1), input_variances(inputs, self.configuration.least_spread)
        at = torch.as_tensor(centre, dtype=self.model.precision)
        state, action = at[:, :states], at[:, states:]
        slopes = torch.cat(self.model.jacobians(state, action), dim=-1).detach().double().numpy()
        with torch.no_grad():
            predicted = self.model.predict(state, action)
        # The change, in the model's precision, on a state that keeps its digits.
        means = centre[:, :states] + (predicted.mean - state).double().numpy()
        slope, mean = slopes.mean(axis=0), means.mean(axis=0)
        off, apart = slopes - slope, means - mean
        noise = np.einsum("khn,khp->hnp", apart, apart) / len(slopes)
        noise += np.einsum("khnz,hz,khpz->hnp", off, variances, off, optimize=True) / len(slopes)
        # Known dynamics have no noise, yet a joint Gaussian needs some to be one.
        own = predicted.variance.double().numpy().mean(axis=0) + LEAST_NOISE * variances[:, :states]
        noise[:, range(states), range(states)] += own
        return linearised(inputs, slope, mean, noise, self.configuration)


def linearised(
    inputs: Array, slope: Array, following: Array, noise: Array, configuration: PriorConfig
) -> NormalInverseWishart:
    """Beliefs that x' ~ N(following + F (z - mean), N), at the spread of the inputs z = [x; u] that there are.

        mu0 = [mean of z; following]     Phi / n0 = [[S, S F'], [F S, F S F' + N]]

    with S the diagonal `input_variances`: the prior weighs as n0 rollouts that were spread as these are.
    inputs [H, R, p], F `slope` [H, n, p], following [H, n], N `noise` [H, n, n].
    """
    width, size = inputs.shape[-1], inputs.shape[-1] + slope.shape[1]
    variances = input_variances(inputs, configuration.least_spread)
    cross = slope * variances[:, None, :]
    covariance = np.empty((len(inputs), size, size))
    covariance[:, :width, :width] = variances[:, :, None] * np.eye(width)
    covariance[:, width:, :width] = cross
    covariance[:, :width, width:] = cross.swapaxes(-1, -2)
    covariance[:, width:, width:] = cross @ slope.swapaxes(-1, -2) + noise
    return NormalInverseWishart(
        np.concatenate([inputs.mean(axis=1), following], axis=1),
        configuration.scale_count * covariance,
        configuration.mean_count,
        configuration.scale_count,
    )


def input_variances(inputs: Array, least_spread: float) -> Array:
    """Variances [H, p] of each step's inputs [H, R, p]; standard deviations are at least a share of the typical one."""
    variances = inputs.var(axis=1)
    typical = variances.mean(axis=0)
    # Where no rollouts differ at all any spread does: slopes are then the prior's.
    return np.asarray(np.maximum(variances, least_spread**2 * np.where(typical > 0.0, typical, 1e-6)))


def _checked(configuration: PriorConfig | None) -> PriorConfig:
    """Raises ValueError unless the prior is worth something."""
    configuration = PriorConfig() if configuration is None else configuration
    for name, above in (("mean_count", False), ("scale_count", True), ("least_spread", True)):
        value = getattr(configuration, name)
        if not np.isfinite(value) or value < 0.0 or (above and value == 0.0):
            raise ValueError(
                f"prior: got {name} {value}, expected a finite number {'above' if above else 'of at least'} 0"
            )
    return configuration


def _smallest_eigenvalue(matrix: Array) -> float:
    return float(np.linalg.eigvalsh(matrix)[0]) if np.isfinite(matrix).all() else -np.inf
