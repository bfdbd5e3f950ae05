# SPDX-License-Identifier: Apache-2.0
"""Time-varying linear-Gaussian controllers, the states that they lead to, and divergences between them.

A controller is p(u_t | x_t) = N(K_t x_t + k_t, Sigma_t), the dynamics are x_(t+1) = A_t x_t + B_t u_t + c_t + w_t with
w_t ~ N(0, N_t), and the first state is Gaussian, so that all later ones are (Levine and Abbeel 2014, "Learning neural
network policies with guided policy search under unknown dynamics"). Everything is in double precision.

States count from step to step: an angle that passes pi goes on to 3.2 and is not wrapped to -3.1.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mbrl_core.specs import Array
from mbrl_dynamics.local_linear import Moments, check_array, check_covariances, offsets_about

EXECUTIONS = ("open_loop", "feedback", "stochastic")


@dataclass(frozen=True)
class LinearGaussianController:
    """p(u_t | x_t) = N(K_t x_t + k_t, Sigma_t).

    Attributes:
        gains: K [H, m, n].
        offsets: k [H, m].
        covariances: Sigma [H, m, m]; singular ones, zero among them, are for execution, but have no density.

    Raises ValueError on shapes that do not fit, numbers that are not finite, and covariances that are not symmetric
    and positive semi-definite.
    """

    gains: Array
    offsets: Array
    covariances: Array

    def __post_init__(self) -> None:
        if self.gains.ndim != 3 or 0 in self.gains.shape:
            raise ValueError(f"controller gains: got shape {self.gains.shape}, expected [H, action_size, state_size]")
        horizon, actions, _ = self.gains.shape
        check_array("controller gains", self.gains, self.gains.shape)
        check_array("controller offsets", self.offsets, (horizon, actions))
        check_array("controller covariances", self.covariances, (horizon, actions, actions))
        check_covariances("controller covariances", self.covariances)

    @classmethod
    def around(
        cls, states: Array, actions: Array, gains: Array, covariances: Array, corrections: Array | None = None
    ) -> "LinearGaussianController":
        """u_t = uhat_t + K_t (x_t - xhat_t) + k_t plus noise: about states [H, n] or [H + 1, n], actions [H, m].

        `corrections` k [H, m] are zero where None. Raises ValueError as the class does.
        """
        if gains.ndim != 3 or states.ndim != 2 or len(states) not in (len(gains), len(gains) + 1):
            raise ValueError(f"states: got shape {states.shape} beside gains {gains.shape}, expected [H + 1, n]")
        horizon, size, width = gains.shape
        check_array("states", states, (len(states), width))
        check_array("actions", actions, (horizon, size))
        wanted = actions if corrections is None else actions + corrections
        return cls(gains, offsets_about(states, wanted, gains), covariances)

    @property
    def horizon(self) -> int:
        """H, steps."""
        return int(self.gains.shape[0])

    @property
    def action_size(self) -> int:
        """m."""
        return int(self.gains.shape[1])

    @property
    def state_size(self) -> int:
        """n."""
        return int(self.gains.shape[2])

    @cached_property
    def precisions(self) -> Array:
        """Sigma^-1 [H, m, m]. Raises ValueError where a covariance is singular."""
        inverse = np.linalg.inv(self._factors)
        return np.asarray(np.swapaxes(inverse, 1, 2) @ inverse)

    @cached_property
    def log_determinants(self) -> Array:
        """log |Sigma| [H]. Raises ValueError where a covariance is singular."""
        return np.asarray(2.0 * np.log(np.diagonal(self._factors, axis1=1, axis2=2)).sum(axis=1))

    @cached_property
    def _factors(self) -> Array:
        try:
            return np.asarray(np.linalg.cholesky(self.covariances))
        except np.linalg.LinAlgError:
            step = int(np.argmin(np.linalg.eigvalsh(self.covariances)[:, 0]))
            raise ValueError(
                f"controller covariances: singular at step {step}: {self.covariances[step].tolist()}, expected positive"
                " definite ones, as densities and divergences need"
            ) from None

    @cached_property
    def _roots(self) -> Array:
        """Symmetric square roots, which singular covariances have, too."""
        values, vectors = np.linalg.eigh(self.covariances)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))[:, None]) @ np.swapaxes(vectors, 1, 2))

    def means(self, states: Array) -> Array:
        """K_t x_t + k_t [..., H, m] at states [..., H, n]."""
        return np.asarray(_apply(self.gains, states) + self.offsets)

    def sample(self, state: Array, step: int, random: np.random.Generator) -> Array:
        """Actions [..., m] at states [..., n] of step `step`: one draw of m normal numbers each."""
        noise = random.standard_normal((*state.shape[:-1], self.action_size))
        return np.asarray(_apply(self.gains[step], state) + self.offsets[step] + _apply(self._roots[step], noise))

    def noise(self, count: int, random: np.random.Generator) -> Array:
        """[count, H, m], what is added to the mean actions of `count` trajectories."""
        return _apply(self._roots, random.standard_normal((count, self.horizon, self.action_size)))

    def log_density(self, states: Array, actions: Array) -> Array:
        """log p(u_t | x_t) [..., H] at states [..., H, n], actions [..., H, m]. Raises ValueError, see `precisions`."""
        error = actions - self.means(states)
        distance = (error * _apply(self.precisions, error)).sum(axis=-1)
        return np.asarray(-0.5 * (distance + self.log_determinants + self.action_size * math.log(2.0 * math.pi)))

    def entropy(self) -> Array:
        """-E log p(u_t | x_t) [H], in nats. Raises ValueError, see `precisions`."""
        return np.asarray(0.5 * (self.log_determinants + self.action_size * (1.0 + math.log(2.0 * math.pi))))

    def execution(self, kind: str, states: Array) -> "LinearGaussianController":
        """The controller as it is executed: one of `EXECUTIONS`.

        open_loop: uhat_t, the action at `states` xhat [H, n] or [H + 1, n], whatever the state; feedback: uhat_t +
        K_t (x_t - xhat_t) without noise; stochastic: with noise. Raises ValueError on another kind.
        """
        if kind not in EXECUTIONS:
            raise ValueError(f"execution: got {kind!r}, expected one of: {', '.join(EXECUTIONS)}")
        if kind == "stochastic":
            return self
        silent = np.zeros_like(self.covariances)
        if kind == "feedback":
            return LinearGaussianController(self.gains, self.offsets, silent)
        return LinearGaussianController(np.zeros_like(self.gains), self.means(states[: self.horizon]), silent)


def kl_divergence(first: LinearGaussianController, second: LinearGaussianController, moments: Moments) -> Array:
    """E KL(first || second) [H], in nats, under states x_t ~ N(mu, S) of `moments`, those that `first` leads to:

        1/2 [tr(P2 Sigma1) - m + log |Sigma2| - log |Sigma1| + d'P2 d + tr(D'P2 D S)],   P2 = Sigma2^-1,
        D = K1 - K2,   d = D mu + k1 - k2

    Under the same dynamics their sum is the divergence between the distributions of whole trajectories (Levine and
    Abbeel 2014). Raises ValueError where a covariance is singular or shapes do not fit.
    """
    check_array("second controller's gains", second.gains, first.gains.shape)
    check_array("means of the states", moments.state_mean, (first.horizon + 1, first.state_size))
    gains, precisions = first.gains - second.gains, second.precisions
    mean = _apply(gains, moments.state_mean[:-1]) + first.offsets - second.offsets
    spread = first.covariances + gains @ moments.state_covariance[:-1] @ np.swapaxes(gains, 1, 2)
    trace = np.einsum("hij,hji->h", precisions, spread) - first.action_size
    distance = (mean * _apply(precisions, mean)).sum(axis=-1)
    # Rounding leaves -1e-16 of two that are the same.
    return np.asarray(np.maximum(0.5 * (trace + second.log_determinants - first.log_determinants + distance), 0.0))


def _apply(matrices: Array, vectors: Array) -> Array:
    return np.asarray((matrices @ vectors[..., None])[..., 0])
