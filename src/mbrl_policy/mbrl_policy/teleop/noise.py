# SPDX-License-Identifier: Apache-2.0
"""Noise on a person's commands, so that a demonstration shows how to come back."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.random_streams import generator
from mbrl_core.specs import Array, RobotSpec

STREAM = "command noise"


@dataclass(frozen=True)
class CommandNoiseConfig:
    """How a person's commands are disturbed. Both may be changed while the robot moves."""

    noise_std: float = parameter(
        0.0, "Standard deviation of the noise on what is executed, half ranges of each action; what was commanded is on"
        " the topic intended_plan and is what imitation learns. 0: none", minimum=0.0, maximum=1.0,
    )  # fmt: skip
    noise_seed: int = parameter(
        0, "Keys the noise: with the same seed, a step of an episode has the same noise", minimum=0
    )


class CommandNoise:
    """Laskey, Lee, Fox, Dragan and Goldberg 2017, "DART: Noise injection for robust imitation learning"
    (arXiv:1703.09327), section 3: u_t = pi*(x_t) + eps, eps ~ N(0, Sigma), with a person as the supervisor pi*.

    Sigma = (`noise_std` half range)^2, independent from action to action and from step to step. The draw of a step
    depends on (seed, episode, step) alone, so that all plans that have a row for it disturb it alike.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._lower, self._upper = np.array(spec.action.lower), np.array(spec.action.upper)

    def intended(self, actions: Array) -> Array:
        """What is meant by `actions` [H, m]: as much of it as the limits let through."""
        return np.clip(actions, self._lower, self._upper)

    def disturbed(self, config: CommandNoiseConfig, intended: Array, episode: int, first_step: int) -> Array:
        """`intended` [H, m] of the steps from `first_step` on with their noise, within the limits, normalised."""
        if config.noise_std == 0.0:
            return intended
        draws = np.stack(
            [
                generator(config.noise_seed, episode, first_step + row, STREAM).standard_normal(intended.shape[1])
                for row in range(len(intended))
            ]
        )
        half_range = 0.5 * (self._upper - self._lower)
        return np.clip(intended + config.noise_std * half_range * draws, self._lower, self._upper)
