# SPDX-License-Identifier: Apache-2.0
"""Behavioural cloning: a policy fitted to what was shown, and to nothing else."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_core.config import parameter
from mbrl_policy.imitation.fit import fit_policy, policy_loss
from mbrl_policy.imitation.labelled import LabelledConfig, LabelledTraining
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.training import TRAINERS, Progress, TrainingError, TrainingRobot


@dataclass(frozen=True)
class BehaviouralCloningConfig(LabelledConfig):
    """Parameters of behavioural cloning."""

    iterations: int = parameter(
        1, "fits, each from newly drawn weights; the best of them is the policy", minimum=1, maximum=100_000
    )
    evaluation: str = parameter(
        "none",
        "how the best of several fits is known: by its return on the robot or in the model, or none, by its loss on"
        " demonstrations that were held out",
        choices=("robot", "model", "none"),
    )
    held_out: float = parameter(
        0.1, "share of the demonstrations, drawn at random, that no fit sees; one at least where there are two and the"
        " share is not 0", minimum=0.0, maximum=0.9,
    )  # fmt: skip


@TRAINERS.register("behavioural_cloning", BehaviouralCloningConfig)
class BehaviouralCloning(LabelledTraining):
    """Pomerleau 1989, "ALVINN: an autonomous land vehicle in a neural network", with the head that the policy's kind
    has: a Gaussian (mlp, rbf, linear), a mixture density network (Bishop 1994), or action chunks (Zhao et al. 2023).

    Needs neither model nor planner nor, without trials, the robot. The actions are those that were meant within the
    limits: a person's before noise was added, and those executed where nobody says so. `Progress.loss` is that of the
    fit, `information` has `labels`, `demonstrations`, and `held_out_loss`, the same of demonstrations that were not
    seen (NaN where all were).

    Raises ConfigurationError without demonstrations; `iterate` raises TrainingError where they are too short.
    """

    kind = "behavioural_cloning"
    needs = ("demonstrations",)
    config: BehaviouralCloningConfig

    def __init__(self, config: Any, robot: TrainingRobot, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        self.least_loss = math.inf  # on what was held out

    def _iterate(self, keep_going: Callable[[], bool]) -> Progress:
        parts = [Labels.of_rollout(rollout) for rollout in self.demonstrations]
        unseen = self._held_out(len(parts))
        seen = Labels.joined([part for index, part in enumerate(parts) if index not in unseen])
        network, seed = self.new_policy(), self.torch_seed("fit")
        try:
            loss = fit_policy(network, seen, self.config, seed, keep_going, fresh=True)
            held_out_loss = (
                policy_loss(network, Labels.joined([parts[index] for index in unseen])) if unseen else math.nan
            )
        except ValueError as error:
            raise TrainingError(f"trainer {self.kind!r}: {error}") from error
        self.network, self.labels, self.fitted = network, seen, True
        mean_return = self._evaluate(keep_going)
        if self.config.evaluation != "none":
            self._consider(network, mean_return)
        elif not held_out_loss >= self.least_loss:
            self._best = None
            self._consider(network, math.nan)
            self.least_loss = held_out_loss if unseen else math.inf
        told = {
            "labels": float(len(seen)), "demonstrations": float(len(parts)), "held_out_loss": held_out_loss,
        }  # fmt: skip
        return Progress(0, mean_return, math.nan, loss, information=told)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, information = super()._state()
        least_loss = self.least_loss if math.isfinite(self.least_loss) else None
        return arrays, {**information, "least_loss": least_loss}

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        least_loss = information["least_loss"]
        super()._restore(arrays, information)
        self.least_loss = math.inf if least_loss is None else float(least_loss)

    def _held_out(self, count: int) -> list[int]:
        """Which demonstrations are not learned from: the same in all iterations."""
        share = self.config.held_out
        if share == 0.0 or count < 2:
            return []
        number = min(max(round(share * count), 1), count - 1)
        random = np.random.default_rng([self.seed, count])
        return sorted(int(index) for index in random.permutation(count)[:number])
