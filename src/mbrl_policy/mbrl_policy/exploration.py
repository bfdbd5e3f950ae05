# SPDX-License-Identifier: Apache-2.0
"""Random exploration: coloured noise within the limits, kept away from end stops."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.random_streams import generator
from mbrl_core.specs import Array, RobotSpec
from mbrl_planner.noise import coloured_noise

STRETCH = 256  # steps of noise that are drawn together


@dataclass(frozen=True)
class ExplorationConfig:
    """How actions are drawn."""

    seed: int = parameter(0, "Keys the random streams", minimum=0)
    noise_exponent: float = parameter(
        1.0, "The noise's power falls as 1 / frequency^exponent: 0 is white, 1 pink, 2 red", minimum=0.0, maximum=10.0
    )
    std: float = parameter(
        1.0, "Standard deviation as a share of half the range; what goes beyond the range is clipped", minimum=0.0
    )
    scale: float = parameter(1.0, "Share of the range between the limits, around its middle", minimum=0.0, maximum=1.0)
    middle: float = parameter(
        0.2,
        "Share of a joint's position range, around its middle, outside of which no effort or velocity drives it further"
        " out: what would is mirrored. 1 lets it run into its end stops",
        minimum=0.0,
        maximum=1.0,
    )
    rows: int = parameter(
        4, "Rows in a plan, from the step that it answers: a late answer still serves", minimum=1, maximum=1000
    )


class RandomExploration:
    """Coloured Gaussian noise; what would drive a joint out of the middle of its range is mirrored.

    Pink noise explores both what an action does at once and where many of the same sign lead to (Eberhard et al. 2023,
    "Pink Noise Is All You Need: Colored Noise Exploration in Deep Reinforcement Learning"). Every stretch of it
    is scaled to the same standard deviation, so that no episode is a timid one.

    Data from end stops teaches little of the motion in between, and an arm that runs into them is no joy to watch. The
    draw of a step depends on (seed, episode, step) alone, so plans that overlap differ only in what they mirror. Joints
    without position limits and position commands are left alone.
    """

    def __init__(self, config: ExplorationConfig, spec: RobotSpec) -> None:
        self.config = config
        lower, upper = np.array(spec.action.lower), np.array(spec.action.upper)
        self._middle = (lower + upper) / 2.0
        self._half_range = (upper - lower) / 2.0 * config.scale
        # An action is named after its joint, whose position is the state variable of that name.
        self._position = [spec.state.names.index(f"{name}_position") for name in spec.action.names]
        self._joint_lower = np.array(spec.state.lower)[self._position]
        self._joint_upper = np.array(spec.state.upper)[self._position]
        movable = np.array([interface != "position" for interface in spec.action.interfaces])
        self._guarded = movable & np.isfinite(self._joint_lower) & np.isfinite(self._joint_upper)
        # A positive command may push towards the negative end.
        self._sign = np.sign(np.array(spec.action.scale))
        self._stretch: tuple[int, int, Array] | None = None  # episode, number, noise [STRETCH, action_size]

    def actions(self, episode: int, step: int, state: Array) -> Array:
        """Actions of steps step, step + 1, ... [rows, action_size], normalised; state [state_size] is of `step`."""
        outward = self._outward(state)
        offsets = np.stack([self._draw(episode, step + row) for row in range(self.config.rows)])
        return self._middle + np.where(offsets * outward > 0.0, -offsets, offsets)

    def _draw(self, episode: int, step: int) -> Array:
        number, row = divmod(step, STRETCH)
        if self._stretch is None or self._stretch[:2] != (episode, number):
            random = generator(self.config.seed, episode, number * STRETCH, "explore")
            noise = coloured_noise(random, self.config.noise_exponent, 1, STRETCH, len(self._middle))[0]
            scaled = self.config.std * noise.astype(np.float64) / noise.std(axis=0)
            self._stretch = episode, number, self._half_range * np.clip(scaled, -1.0, 1.0)
        return self._stretch[2][row]

    def _outward(self, state: Array) -> Array:
        """[action_size] sign of actions that drive the joint further out; 0 where it is free to go either way."""
        with np.errstate(invalid="ignore"):  # infinite limits, which are not guarded
            centre = (self._joint_lower + self._joint_upper) / 2.0
            place = (state[self._position] - centre) / ((self._joint_upper - self._joint_lower) / 2.0)
        beyond = self._guarded & (np.abs(place) > self.config.middle)
        return np.where(beyond, np.sign(place) * self._sign, 0.0)
