# SPDX-License-Identifier: Apache-2.0
"""Time-varying linear-Gaussian dynamics: what they predict, simulate, and do to a Gaussian distribution of states."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_core.specs import Array, state_difference

# What rounding leaves of zero, relative to a covariance's largest entry.
LEAST_EIGENVALUE = -1e-9
LARGEST_ASYMMETRY = 1e-6


@dataclass(frozen=True)
class Chart:
    """In which turn angles are counted along a trajectory.

    A linear model needs angles that do not jump. At each step they are those within half a turn of a reference that
    itself goes on from step to step without jumps, so that the next state of one step is the state of the next.

    Attributes:
        reference: [H + 1, n], angles unwrapped.
        angular: [n], true where the variable wraps at 2 pi.
    """

    reference: Array
    angular: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = np.shape(self.reference)
        if len(shape) != 2 or np.shape(self.angular) != shape[1:]:
            raise ValueError(f"chart: got reference {shape} and angular {np.shape(self.angular)}, expected two equal n")
        if not np.isfinite(self.reference).all():
            raise ValueError("chart: the reference has non-finite numbers")

    @staticmethod
    def around(states: Array, angular: NDArray[np.bool_]) -> "Chart":
        """About the mean of rollouts [R, H + 1, n], whose angles may be wrapped anywhere, counted as the first begins.

        Each rollout is followed through its turns from a start within half a turn of the first one's.
        """
        followed = np.empty_like(states)
        followed[:, 0] = states[0, 0] + state_difference(states[:, 0], states[0, 0], angular)
        changes = state_difference(states[:, 1:], states[:, :-1], angular)
        followed[:, 1:] = followed[:, :1] + np.cumsum(changes, axis=1)
        return Chart(followed.mean(axis=0), angular)

    def unwrapped(self, states: Array, step: int | slice = slice(None)) -> Array:
        """States [..., n] at `step`, or [..., H + 1, n] at all of them, with angles counted as here."""
        at = self.reference[step]
        return np.asarray(at + state_difference(states, at, self.angular))


@dataclass(frozen=True)
class Moments:
    """A Gaussian trajectory distribution: states x_0 .. x_H and, for each step, [x_t; u_t] together.

    Attributes:
        state_mean: [H + 1, n].
        state_covariance: [H + 1, n, n].
        joint_mean: [H, n + m].
        joint_covariance: [H, n + m, n + m].
    """

    state_mean: Array
    state_covariance: Array
    joint_mean: Array
    joint_covariance: Array


@dataclass(frozen=True)
class LocalDynamics:
    """x_(t+1) ~ N(A_t x_t + B_t u_t + c_t, N_t) over H steps.

    Levine and Abbeel 2014, "Learning Neural Network Policies with Guided Policy Search under Unknown Dynamics".
    `matrix`, `control` and `offset` are named as in mbrl_planner's LinearDynamics: `LinearDynamics(*local.affine)`.

    Attributes:
        matrix: A [H, n, n].
        control: B [H, n, m], of normalised actions.
        offset: c [H, n], SI units.
        covariance: N [H, n, n], of the next state; may be singular.
        chart: in which turn the model's angles are counted; None when no state wraps, or all are counted that way
            already. Whatever takes states here counts their angles so by itself; whatever returns states does not
            wrap them.

    Raises ValueError on shapes that do not fit, non-finite numbers, or a covariance that is none.
    """

    matrix: Array
    control: Array
    offset: Array
    covariance: Array
    chart: Chart | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.control) != 3:
            raise ValueError(f"control: got shape {np.shape(self.control)}, expected [H, n, m]")
        horizon, states, actions = self.control.shape
        expected = {
            "matrix": (horizon, states, states),
            "control": (horizon, states, actions),
            "offset": (horizon, states),
            "covariance": (horizon, states, states),
        }
        for name, shape in expected.items():
            check_array(f"local dynamics: {name}", getattr(self, name), shape)
        if self.chart is not None:
            check_array("local dynamics: the chart's reference", self.chart.reference, (horizon + 1, states))
        check_covariances("local dynamics: covariance", self.covariance)

    @property
    def horizon(self) -> int:
        """Number of steps H."""
        return self.control.shape[0]

    @property
    def state_size(self) -> int:
        """n."""
        return self.control.shape[1]

    @property
    def action_size(self) -> int:
        """m."""
        return self.control.shape[2]

    @property
    def affine(self) -> tuple[Array, Array, Array]:
        """A [H, n, n], B [H, n, m] and c [H, n]: what a linear-quadratic solver takes."""
        return self.matrix, self.control, self.offset

    def predict(self, state: Array, action: Array, step: int) -> Array:
        """Mean next state [..., n] of `state` [..., n] and `action` [..., m] at `step`."""
        return self._following(self._counted(state, step), action, step)

    def rollout(self, state: Array, actions: Array) -> Array:
        """Mean states [N, H + 1, n] from `state` [n] or [N, n] under actions [N, H, m], without noise."""
        check_array("actions", actions, (len(actions), self.horizon, self.action_size))
        states = np.empty((len(actions), self.horizon + 1, self.state_size))
        states[:, 0] = self._counted(state, 0)
        for step in range(self.horizon):
            states[:, step + 1] = self._following(states[:, step], actions[:, step], step)
        return states

    def simulate(
        self, state: Array, gains: Array, offsets: Array, covariances: Array, random: np.random.Generator
    ) -> tuple[Array, Array]:
        """Draws trajectories from `state` [N, n] under u_t ~ N(K_t x_t + k_t, covariances_t).

        gains K [H, m, n], offsets k [H, m], covariances [H, m, m]. Returns states [N, H + 1, n], actions [N, H, m].
        """
        self._check_controller(gains, offsets, covariances)
        check_array("state", state, (len(state), self.state_size))
        states = np.empty((len(state), self.horizon + 1, self.state_size))
        actions = np.empty((len(state), self.horizon, self.action_size))
        action_roots, state_roots = covariance_roots(covariances), covariance_roots(self.covariance)
        states[:, 0] = self._counted(state, 0)
        for step in range(self.horizon):
            at = states[:, step]
            noise = random.standard_normal((len(state), self.action_size)) @ action_roots[step].T
            actions[:, step] = at @ gains[step].T + offsets[step] + noise
            noise = random.standard_normal((len(state), self.state_size)) @ state_roots[step].T
            states[:, step + 1] = self._following(at, actions[:, step], step) + noise
        return states, actions

    def moments(self, mean: Array, covariance: Array, gains: Array, offsets: Array, covariances: Array) -> Moments:
        """What a start x_0 ~ N(`mean` [n], `covariance` [n, n]) becomes under u_t ~ N(K_t x_t + k_t, C_t).

            E[u] = K E[x] + k     Cov[x, u] = [[S, S K'], [K S, K S K' + C]]     S' = F Cov[x, u] F' + N,  F = [A B]

        gains K [H, m, n], offsets k [H, m], covariances C [H, m, m]; a controller about a trajectory, as in
        `offsets_about`, is one of these. Raises ValueError on shapes, non-finite numbers, or what is no covariance.
        """
        self._check_controller(gains, offsets, covariances)
        states, actions, horizon = self.state_size, self.action_size, self.horizon
        check_array("mean", mean, (states,))
        check_array("covariance", covariance, (states, states))
        check_covariances("covariance", covariance[None])
        state_mean, state_covariance = np.empty((horizon + 1, states)), np.empty((horizon + 1, states, states))
        joint_mean = np.empty((horizon, states + actions))
        joint_covariance = np.empty((horizon, states + actions, states + actions))
        state_mean[0], state_covariance[0] = self._counted(mean, 0), covariance
        both = np.concatenate([self.matrix, self.control], axis=-1)
        for step in range(horizon):
            at, spread, gain = state_mean[step], state_covariance[step], gains[step]
            joint_mean[step] = np.concatenate([at, gain @ at + offsets[step]])
            extended = np.concatenate([np.eye(states), gain])
            joint = extended @ spread @ extended.T
            joint[states:, states:] += covariances[step]
            joint_covariance[step] = joint
            state_mean[step + 1] = both[step] @ joint_mean[step] + self.offset[step]
            following = both[step] @ joint @ both[step].T + self.covariance[step]
            state_covariance[step + 1] = 0.5 * (following + following.T)
        return Moments(state_mean, state_covariance, joint_mean, joint_covariance)

    def _following(self, state: Array, action: Array, step: int) -> Array:
        """Without counting angles anew: a trajectory that has gone far keeps the turn that it is in."""
        return np.asarray(state @ self.matrix[step].T + action @ self.control[step].T + self.offset[step])

    def _counted(self, state: Array, step: int) -> Array:
        return np.asarray(state, dtype=np.float64) if self.chart is None else self.chart.unwrapped(state, step)

    def _check_controller(self, gains: Array, offsets: Array, covariances: Array) -> None:
        states, actions, horizon = self.state_size, self.action_size, self.horizon
        check_array("controller gains", gains, (horizon, actions, states))
        check_array("controller offsets", offsets, (horizon, actions))
        check_array("controller covariances", covariances, (horizon, actions, actions))
        check_covariances("controller covariances", covariances)


def offsets_about(states: Array, actions: Array, gains: Array) -> Array:
    """k_t [H, m] with K_t x + k_t = actions_t + K_t (x - states_t): states [H or H + 1, n], gains [H, m, n].

    The angles of `states` have to be counted as the dynamics count them (`Chart.unwrapped`).
    """
    return np.asarray(actions - np.einsum("hmn,hn->hm", gains, states[: len(actions)]))


def covariance_roots(covariances: Array) -> Array:
    """R [..., d, d] with R R' = covariances, which may be singular."""
    values, vectors = np.linalg.eigh(covariances)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None))[..., None, :])


def check_array(name: str, values: Array, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `values` has the shape and only finite numbers."""
    if np.shape(values) != shape:
        raise ValueError(f"{name}: got shape {np.shape(values)}, expected {shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: has non-finite numbers")


def check_covariances(name: str, covariances: Array) -> None:
    """Raises ValueError with the step unless covariances [..., H, d, d] are symmetric and positive semi-definite."""
    flat = covariances.reshape(-1, *covariances.shape[-2:])
    asymmetry = np.abs(flat - np.swapaxes(flat, -1, -2)).max(axis=(-1, -2))
    largest = np.abs(flat).max(axis=(-1, -2))
    smallest = np.linalg.eigvalsh(flat)[..., 0]
    bad = (asymmetry > LARGEST_ASYMMETRY * largest) | (smallest < LEAST_EIGENVALUE * largest)
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        step = index % covariances.shape[-3] if covariances.ndim > 2 else 0
        raise ValueError(
            f"{name}: expected symmetric and positive semi-definite, at step {step} got asymmetry"
            f" {asymmetry[index]:.3g} and smallest eigenvalue {smallest[index]:.3g}"
        )
