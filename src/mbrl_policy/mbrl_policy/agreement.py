# SPDX-License-Identifier: Apache-2.0
"""When a policy may act in a planner's place, and when the planner is to take over again."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.policies.fast import FastNetwork, FastPolicy
from mbrl_core.specs import Array


@dataclass(frozen=True)
class AgreementConfig:
    """Parameters of the hand-over between a planner and a policy."""

    planner: str = parameter(
        "", "controller whose plans the policy is compared with; empty: it always acts", read_only=True
    )
    window: int = parameter(
        10, "steps over which differences are averaged, and after which the policy may act again", minimum=1,
        maximum=1000, read_only=True,
    )  # fmt: skip
    take_over: float = parameter(
        0.35, "mean difference to the planner's actions, share of the range, above which the policy falls silent",
        minimum=0.0, maximum=1.0, read_only=True,
    )  # fmt: skip
    hand_back: float = parameter(0.2, "the same, up to which it acts again", minimum=0.0, maximum=1.0, read_only=True)
    largest_distance: float = parameter(
        6.0, "distance of a state from those it was trained on, standard deviations of the variable that is furthest,"
        " above which the policy falls silent at once",
        minimum=0.1, read_only=True,
    )  # fmt: skip


class AgreementMonitor:
    """Says whether a policy acts.

    A planner in the same loop says all the time what it would do. The policy acts while it does the same, and is where
    it was trained: discrepancy and doubt, as in EnsembleDAgger (Menda, Driggs-Campbell and Kochenderfer 2019,
    arXiv:1807.08364), with the distance to the training states in the place of an ensemble of policies. Sampling
    planners are noisy, so that the discrepancy is a mean over `window` steps; two thresholds keep the two from taking
    turns. A policy that has not been compared yet does not act. Without a planner's plans nothing changes but what the
    distance says: whoever has just acted goes on.

    Raises ConfigurationError when `hand_back` is above `take_over`.
    """

    def __init__(self, config: AgreementConfig) -> None:
        if config.hand_back > config.take_over:
            raise ConfigurationError(
                f"parameter 'agreement.hand_back': got {config.hand_back}, expected at most 'agreement.take_over',"
                f" which is {config.take_over}"
            )
        self.config = config
        self.acts = not config.planner
        self.reason = "nothing to agree with" if self.acts else "not yet compared"
        self.take_overs = 0
        self._differences: deque[float] = deque(maxlen=config.window)
        self._known_steps = config.window

    @property
    def difference(self) -> float:
        """Mean over the window so far; NaN before the first comparison."""
        return math.fsum(self._differences) / len(self._differences) if self._differences else math.nan

    @property
    def knows_state(self) -> bool:
        """Whether the newest state is near those that the policy was trained on."""
        return self._known_steps > 0

    def start(self) -> None:
        """Another policy: it has to show that it agrees."""
        if self.config.planner:
            self._differences.clear()
            self._known_steps = self.config.window
            self.acts, self.reason = False, "not yet compared"

    def compare(self, difference: float) -> None:
        """Takes the difference between the two's actions for one step, see `action_difference`."""
        self._differences.append(difference)
        if self.acts and self.difference > self.config.take_over:
            # One step of full disagreement says little, so that a short window counts as if it were whole.
            if math.fsum(self._differences) > self.config.take_over * self.config.window:
                self._stop(f"its actions differ by {self.difference:.2f} of the range")
        else:
            self._act_if_known()

    def visit(self, distance: float) -> None:
        """Takes the distance of the newest state, see `training_distance`."""
        if distance > self.config.largest_distance:
            self._known_steps = 0
            if self.config.planner:
                self._stop(f"the state is {distance:.1f} standard deviations from its training")
        else:
            self._known_steps += 1

    def _stop(self, reason: str) -> None:
        if self.acts:
            self.acts, self.take_overs = False, self.take_overs + 1
        self.reason = reason

    def _act_if_known(self) -> None:
        agrees = len(self._differences) == self.config.window and self.difference <= self.config.hand_back
        if not self.acts and agrees and self._known_steps >= self.config.window:
            self.acts, self.reason = True, f"its actions differ by {self.difference:.2f} of the range"


def action_difference(first: Array, second: Array, lower: Array, upper: Array) -> float:
    """Mean over actions of the absolute difference of two actions [m] within the limits, as a share of their range."""
    return float(np.mean(np.abs(np.clip(first, lower, upper) - np.clip(second, lower, upper)) / (upper - lower)))


def training_distance(policy: FastPolicy, state: Array) -> float:
    """How far a state [n] is from those that a network policy's observations were normalised by: the largest
    |value - mean| / standard deviation. 0 for policies that do not know what they were trained on.
    """
    if not isinstance(policy, FastNetwork):
        return 0.0
    return float(np.abs(policy.observation.of(state)).max())
