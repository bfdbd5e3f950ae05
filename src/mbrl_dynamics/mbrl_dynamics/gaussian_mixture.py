# SPDX-License-Identifier: Apache-2.0
"""Gaussian mixtures over points of which some coordinates are angles, fitted by expectation maximisation."""

import math
from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.random_streams import generator
from mbrl_core.specs import Array

CLUSTER_MOVES = 5  # of the k-means start


@dataclass(frozen=True)
class MixtureConfig:
    """Parameters of a fit."""

    components: int = parameter(
        0, "Gaussians in the mixture; 0 = doubled as long as the BIC gets better", minimum=0, maximum=1000
    )
    most_components: int = parameter(64, "the most that the BIC may choose", minimum=1, maximum=1000)
    iterations: int = parameter(100, "the most iterations of a fit", minimum=1, maximum=10_000)
    tolerance: float = parameter(1e-4, "a fit ends when it gains less than this, nats a point", minimum=0.0)
    floor: float = parameter(
        1e-6, "added to each component's variances, as a share of the variance of all points", minimum=1e-12
    )


@dataclass(frozen=True)
class GaussianMixture:
    """sum_k weight_k N(mean_k, covariance_k).

    A coordinate with a period is an angle: each component sees a point in the turn that is nearest to its mean,
    which is a wrapped normal distribution where a component is narrow beside a turn.

    Attributes:
        weights: [K], which sum to one.
        means: [K, d].
        covariances: [K, d, d].
        periods: [d], inf for what does not wrap.
    """

    weights: Array
    means: Array
    covariances: Array
    periods: Array

    @property
    def components(self) -> int:
        """K."""
        return len(self.weights)

    def log_parts(self, points: Array) -> Array:
        """log(weight_k N(point | k)) [N, K] of points [N, d]."""
        roots = np.linalg.cholesky(self.covariances)
        inverse = np.linalg.inv(roots)
        result = np.empty((len(points), self.components))
        for index in range(self.components):
            whitened = nearest(points - self.means[index], self.periods) @ inverse[index].T
            log_determinant = np.log(np.diagonal(roots[index])).sum()
            result[:, index] = -0.5 * np.einsum("nd,nd->n", whitened, whitened) - log_determinant
        return result + np.log(self.weights) - 0.5 * points.shape[1] * math.log(2.0 * math.pi)

    def log_density(self, points: Array) -> Array:
        """[N]."""
        return _log_sum(self.log_parts(points))[:, 0]

    def responsibilities(self, points: Array) -> Array:
        """Probability [N, K] that a point came from a component."""
        parts = self.log_parts(points)
        return np.asarray(np.exp(parts - _log_sum(parts)))

    def bic(self, points: Array) -> float:
        """Bayesian information criterion, -2 log likelihood + free parameters * log N: less is better."""
        count, size = points.shape
        free = self.components * (1 + size + size * (size + 1) // 2) - 1
        return float(-2.0 * self.log_density(points).sum() + free * math.log(count))


def fit_mixture(
    points: Array, seed: int, configuration: MixtureConfig | None = None, periods: Array | None = None
) -> GaussianMixture:
    """Maximum likelihood, with a floor under the variances, by expectation maximisation from a k-means++ start.

    points [N, d]; `periods` [d] are inf (default: all) for coordinates that do not wrap. Same seed, same mixture.
    Dempster, Laird and Rubin 1977; Arthur and Vassilvitskii 2007, "k-means++"; Schwarz 1978 for the BIC. A component
    that fewer than d + 1 points hold has no covariance of its own and is let go: what returns may have fewer
    components than asked for.

    Raises ValueError on shapes, non-finite numbers, or fewer than d + 1 points a component asked for.
    """
    configuration = MixtureConfig() if configuration is None else configuration
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise ValueError(f"mixture: got points {points.shape}, expected finite numbers [N, d]")
    count, size = points.shape
    periods = np.full(size, np.inf) if periods is None else np.asarray(periods, dtype=np.float64)
    if periods.shape != (size,) or not (periods > 0.0).all():
        raise ValueError(f"mixture: got periods {periods.tolist()}, expected {size} positive numbers or inf")
    least = (size + 1) * max(1, configuration.components)
    if count < least:
        raise ValueError(
            f"mixture: got {count} points of {size} numbers, expected at least {least} for"
            f" {max(1, configuration.components)} component(s)"
        )
    # Every coordinate in its own unit, so that distances and the floor mean the same in all of them.
    centre = circular_mean(points, periods)
    deviation = np.sqrt(np.square(nearest(points - centre, periods)).mean(axis=0))
    scale = np.where(deviation > 0.0, deviation, 1.0)
    scaled, turns = points / scale, periods / scale
    if configuration.components:
        best = _expectation_maximisation(scaled, configuration.components, seed, configuration, turns)
    else:
        best = _expectation_maximisation(scaled, 1, seed, configuration, turns)
        number, criterion = 2, best.bic(scaled)
        while number <= min(configuration.most_components, count // (size + 1)):
            candidate = _expectation_maximisation(scaled, number, seed, configuration, turns)
            reached = candidate.bic(scaled)
            if reached >= criterion:
                break
            best, criterion, number = candidate, reached, 2 * number
    return GaussianMixture(best.weights, best.means * scale, best.covariances * np.outer(scale, scale), periods)


def nearest(differences: Array, periods: Array) -> Array:
    """Differences [..., d] the shorter way round where a coordinate wraps."""
    wraps = np.isfinite(periods)
    if not wraps.any():
        return differences
    result = np.array(differences)
    result[..., wraps] -= periods[wraps] * np.round(result[..., wraps] / periods[wraps])
    return result


def circular_mean(points: Array, periods: Array) -> Array:
    """Mean [d] of points [N, d], that of directions where a coordinate wraps."""
    mean = points.mean(axis=0)
    for index in np.flatnonzero(np.isfinite(periods)):
        unit = 2.0 * math.pi / periods[index]
        angles = unit * points[:, index]
        mean[index] = math.atan2(float(np.sin(angles).mean()), float(np.cos(angles).mean())) / unit
    return np.asarray(mean)


def _expectation_maximisation(
    points: Array, number: int, seed: int, configuration: MixtureConfig, periods: Array
) -> GaussianMixture:
    random = generator(seed, 0, number, "mixture/start")
    shares = _start(points, number, random, periods)
    centres = points[np.argmax(shares, axis=0)]
    mixture = _maximised(points, shares, centres, configuration.floor, periods)
    reached = -math.inf
    for _ in range(configuration.iterations):
        parts = mixture.log_parts(points)
        total = _log_sum(parts)
        likelihood = float(total.mean())
        if likelihood - reached < configuration.tolerance:
            break
        following = _maximised(points, np.exp(parts - total), mixture.means, configuration.floor, periods)
        # Letting a component go may cost likelihood, which is no reason to end.
        reached = likelihood if following.components == mixture.components else -math.inf
        mixture = following
    return mixture


def _maximised(points: Array, shares: Array, centres: Array, floor: float, periods: Array) -> GaussianMixture:
    """The most likely mixture, given `shares` [N, K] of the points in components that were about `centres` [K, d]."""
    size, held = points.shape[1], shares.sum(axis=0)
    kept = np.flatnonzero(held >= min(size + 1, held.max()))
    means, covariances = np.empty((len(kept), size)), np.empty((len(kept), size, size))
    for index, component in enumerate(kept):
        share = shares[:, component] / held[component]
        means[index] = centres[component] + share @ nearest(points - centres[component], periods)
        differences = nearest(points - means[index], periods)
        covariances[index] = (differences * share[:, None]).T @ differences
        covariances[index][np.diag_indices(size)] += floor
    return GaussianMixture(held[kept] / held[kept].sum(), means, covariances, periods)


def _start(points: Array, number: int, random: np.random.Generator, periods: Array) -> Array:
    """Shares [N, number] of zero and one: clusters about points drawn far apart, moved to their middle a few times."""
    chosen = [int(random.integers(len(points)))]
    distances = np.full(len(points), np.inf)
    for _ in range(number - 1):
        distances = np.minimum(distances, _square_distances(points, points[chosen[-1]], periods))
        total = distances.sum()
        # Points that are all the same have no far one.
        chosen.append(int(random.choice(len(points), p=distances / total if total > 0.0 else None)))
    centres = points[chosen]
    for _ in range(CLUSTER_MOVES):
        nearest_centre = np.argmin([_square_distances(points, centre, periods) for centre in centres], axis=0)
        shares = np.asarray(nearest_centre[:, None] == np.arange(number), dtype=np.float64)
        for index in np.flatnonzero(shares.any(axis=0)):
            own = points[nearest_centre == index]
            centres[index] += nearest(own - centres[index], periods).mean(axis=0)
    return shares


def _square_distances(points: Array, centre: Array, periods: Array) -> Array:
    differences = nearest(points - centre, periods)
    return np.asarray(np.einsum("nd,nd->n", differences, differences))


def _log_sum(parts: Array) -> Array:
    """log sum_k exp(parts) [N, 1]."""
    largest = parts.max(axis=1, keepdims=True)
    return np.asarray(largest + np.log(np.exp(parts - largest).sum(axis=1, keepdims=True)))
