# SPDX-License-Identifier: Apache-2.0
"""Policies without noise, one state at a time, in numpy: what a control loop runs.

A small network takes tens of microseconds here; through torch most of the time goes into calling operators. Knows no
torch.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from mbrl_core.specs import ActionSpec, Array, state_difference

Floats = NDArray[np.float32]


class FastPolicy(ABC):
    """Actions of single states [n] (SI units), in normalised units [m]. `step` counts from an episode's first time
    step; policies that depend on time have a `horizon` and answer steps below it.
    """

    def __init__(self, action: ActionSpec, horizon: int | None = None) -> None:
        self.horizon = horizon
        self.lower, self.upper = np.array(action.lower), np.array(action.upper)

    @abstractmethod
    def action(self, state: Array, step: int) -> Array:
        """The action without noise [m], within the limits."""

    @abstractmethod
    def linearised(self, state: Array, step: int) -> tuple[Array, Array]:
        """The action without noise before clipping [m], and its derivative [m, n] by the state."""

    def clipped(self, action: Array) -> Array:
        """The action [m] within the limits."""
        return np.minimum(np.maximum(action, self.lower), self.upper)


class FastFunction(ABC):
    """A function of one observation [k] with values [m]."""

    @abstractmethod
    def value(self, observation: Floats) -> Floats:
        """Values [m]."""

    @abstractmethod
    def with_jacobian(self, observation: Floats) -> tuple[Floats, Floats]:
        """Values [m] and their derivatives [m, k]."""


class FastLayers(FastFunction):
    """Affine layers (weight [outputs, inputs], bias [outputs]) with tanh between them."""

    def __init__(self, layers: list[tuple[Floats, Floats]]) -> None:
        self.layers = [(np.array(weight, np.float32), np.array(bias, np.float32)) for weight, bias in layers]

    def value(self, observation: Floats) -> Floats:
        values = observation
        for weight, bias in self.layers[:-1]:
            values = np.tanh(weight @ values + bias)
        weight, bias = self.layers[-1]
        return weight @ values + bias

    def with_jacobian(self, observation: Floats) -> tuple[Floats, Floats]:
        hidden = [observation]
        for weight, bias in self.layers[:-1]:
            hidden.append(np.tanh(weight @ hidden[-1] + bias))
        last, bias = self.layers[-1]
        jacobian = last
        # Backwards, since there are fewer actions than units.
        for (weight, _), values in zip(self.layers[-2::-1], hidden[:0:-1], strict=True):
            jacobian = (jacobian * (1.0 - values * values)) @ weight
        return last @ hidden[-1] + bias, jacobian


class FastMixture(FastFunction):
    """The mean of the heaviest of K components: hidden layers as `FastLayers` has them, logits (weight [K, units], bias
    [K]) and means (weight [K, m, units], bias [K, m]) of what they give.
    """

    def __init__(
        self, hidden: list[tuple[Floats, Floats]], logits: tuple[Floats, Floats], means: tuple[Floats, Floats]
    ) -> None:
        self.hidden = [(np.array(weight, np.float32), np.array(bias, np.float32)) for weight, bias in hidden]
        self.logits, self.means = (
            (np.array(weight, np.float32), np.array(bias, np.float32)) for weight, bias in (logits, means)
        )

    def value(self, observation: Floats) -> Floats:
        values, index = self._heaviest(observation)
        weight, bias = self.means
        return weight[index] @ values + bias[index]

    def with_jacobian(self, observation: Floats) -> tuple[Floats, Floats]:
        _, index = self._heaviest(observation)
        weight, bias = self.means
        return FastLayers([*self.hidden, (weight[index], bias[index])]).with_jacobian(observation)

    def _heaviest(self, observation: Floats) -> tuple[Floats, int]:
        """What the hidden layers give [units], and the component."""
        values = observation
        for weight, bias in self.hidden:
            values = np.tanh(weight @ values + bias)
        weight, bias = self.logits
        return values, int(np.argmax(weight @ values + bias))


class FastRadial(FastFunction):
    """weight [m, count] times Gaussian bumps around centres [count, k], plus bias [m]; inverse_length [k]."""

    def __init__(self, centres: Floats, inverse_length: Floats, weight: Floats, bias: Floats) -> None:
        arrays = (centres, inverse_length, weight, bias)
        self.centres, self.inverse_length, self.weight, self.bias = (np.array(each, np.float32) for each in arrays)

    def value(self, observation: Floats) -> Floats:
        distance = (observation - self.centres) * self.inverse_length
        return self.weight @ np.exp(-0.5 * np.einsum("ij,ij->i", distance, distance)) + self.bias

    def with_jacobian(self, observation: Floats) -> tuple[Floats, Floats]:
        distance = (observation - self.centres) * self.inverse_length
        weighted = self.weight * np.exp(-0.5 * np.einsum("ij,ij->i", distance, distance))
        return weighted.sum(axis=1) + self.bias, -(weighted @ distance) * self.inverse_length


class Observation:
    """What a network sees of a state [state_size]: ((linear variables, sines, cosines) - shift) / scale, [k]."""

    def __init__(
        self, state_size: int, linear: NDArray[np.int64], angular: NDArray[np.int64], shift: Array, scale: Array
    ) -> None:
        self.state_size = state_size
        self.linear, self.angular = np.array(linear), np.array(angular)
        self.shift, self.scale = np.array(shift), np.array(scale)
        self._sines = slice(len(linear), len(linear) + len(angular))
        self._cosines = slice(len(linear) + len(angular), None)

    def of(self, state: Array) -> Floats:
        """The observation [k] of a state."""
        angles = state[self.angular]
        values = np.concatenate([state[self.linear], np.sin(angles), np.cos(angles)])
        return ((values - self.shift) / self.scale).astype(np.float32)

    def to_state(self, jacobian: Floats, state: Array) -> Array:
        """Derivatives by the state [m, state_size] of derivatives by the observation [m, k]."""
        by_value = jacobian / self.scale
        angles = state[self.angular]
        result = np.zeros((len(jacobian), self.state_size))
        result[:, self.linear] = by_value[:, : len(self.linear)]
        by_sine, by_cosine = by_value[:, self._sines], by_value[:, self._cosines]
        result[:, self.angular] = by_sine * np.cos(angles) - by_cosine * np.sin(angles)
        return result


class FastNetwork(FastPolicy):
    """A function of the observed state, squashed into the limits or clipped."""

    def __init__(self, action: ActionSpec, observation: Observation, function: FastFunction, squash: bool) -> None:
        super().__init__(action)
        self.observation, self.function, self.squash = observation, function, squash
        self.centre, self.half_range = 0.5 * (self.lower + self.upper), 0.5 * (self.upper - self.lower)

    def action(self, state: Array, step: int) -> Array:
        values = self.function.value(self.observation.of(state)).astype(np.float64)
        return self.centre + self.half_range * np.tanh(values) if self.squash else self.clipped(values)

    def linearised(self, state: Array, step: int) -> tuple[Array, Array]:
        values, jacobian = self.function.with_jacobian(self.observation.of(state))
        gain = self.observation.to_state(jacobian, state)
        action = values.astype(np.float64)
        if not self.squash:
            return action, gain
        share = np.tanh(action)
        return self.centre + self.half_range * share, (self.half_range * (1.0 - share * share))[:, None] * gain


class FastChunks(FastNetwork):
    """A network that gives the actions of several steps at once; by itself, the first of them.

    `rows` has all, [k m]; `ensembling` is m of `ChunkMemory`.
    """

    def __init__(
        self,
        action: ActionSpec,
        observation: Observation,
        function: FastFunction,
        squash: bool,
        rows: FastFunction,
        ensembling: float,
    ) -> None:
        super().__init__(action, observation, function, squash)
        self.rows, self.ensembling = rows, ensembling

    def chunk(self, state: Array) -> Array:
        """Actions [k, m] of the steps from that of a state [n] on, within the limits."""
        values = self.rows.value(self.observation.of(state)).astype(np.float64).reshape(-1, len(self.lower))
        return self.centre + self.half_range * np.tanh(values) if self.squash else self.clipped(values)


class ChunkMemory:
    """Temporal ensembling (Zhao et al. 2023, section IV-A): the mean of what the chunks of an episode say for a step,
    the i-th oldest of them weighted by w_i = exp(-m i).
    """

    def __init__(self, ensembling: float) -> None:
        self._ensembling = ensembling
        self._chunks: list[tuple[int, Array]] = []

    def clear(self) -> None:
        """Forgets all: an episode begins."""
        self._chunks = []

    def add(self, step: int, chunk: Array) -> None:
        """Takes a chunk [k, m] whose first row is for `step`; those that end before are forgotten, as are those of the
        same step or later: steps only grow.
        """
        kept = [(first, rows) for first, rows in self._chunks if first < step < first + len(rows)]
        self._chunks = [*kept, (step, np.array(chunk))]

    def actions(self, step: int, rows: int) -> Array:
        """[at most `rows`, m] for the steps from `step` on, fewer where no chunk reaches so far."""
        result = []
        for at in range(step, step + rows):
            said = [chunk[at - first] for first, chunk in self._chunks if first <= at < first + len(chunk)]
            if not said:
                break
            exponents = -self._ensembling * np.arange(len(said))
            weights = np.exp(exponents - exponents.max())
            result.append(weights @ np.array(said) / weights.sum())
        return np.array(result) if result else np.zeros((0, 0))


class FastTimeVarying(FastPolicy):
    """actions [H, m] + gains [H, m, n] (state - states [H, n]), angles (angular [n]) of the difference wrapped."""

    def __init__(
        self, action: ActionSpec, angular: NDArray[np.bool_], actions: Array, gains: Array, states: Array
    ) -> None:
        super().__init__(action, len(actions))
        self.angular = np.array(angular)
        self.actions, self.gains, self.states = np.array(actions), np.array(gains), np.array(states)

    def action(self, state: Array, step: int) -> Array:
        return self.clipped(self.linearised(state, step)[0])

    def linearised(self, state: Array, step: int) -> tuple[Array, Array]:
        error = state_difference(state, self.states[step], self.angular)
        return self.actions[step] + self.gains[step] @ error, self.gains[step]
