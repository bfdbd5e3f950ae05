# SPDX-License-Identifier: Apache-2.0
"""A training algorithm that is only here, and trainer_node as a process that knows it."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mbrl_core.config import parameter
from mbrl_core.policies import policy_arrays
from mbrl_policy.training import TRAINERS, Progress, TrainerConfig, TrainingAlgorithm, TrainingInterrupted
from mbrl_policy.training.algorithm import KeepGoing

KIND = "test_search"


@dataclass(frozen=True)
class SearchConfig(TrainerConfig):
    """Of the search."""

    std: float = parameter(0.3, "of the changes", minimum=0.0)
    sampled: bool = parameter(True, "with the policy's noise")
    start: tuple[float, ...] = parameter((0.5, 0.0), "exact start of every rollout")
    pause: float = parameter(0.0, "seconds that an iteration computes for", minimum=0.0)


@TRAINERS.register(KIND, SearchConfig)
class RandomSearch(TrainingAlgorithm):
    """Changes a policy at random and keeps what is better: the least that trains something."""

    kind = KIND

    def __init__(self, config: SearchConfig, robot: Any, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        self.weights = self.new_policy()

    def _iterate(self, keep_going: KeepGoing) -> Progress:
        trial = self.new_policy()
        trial.load_state_dict(self.weights.state_dict())
        with torch.no_grad():
            for index, values in enumerate(trial.parameters()):
                noise = self.random("change", index).normal(0.0, self.config.std, tuple(values.shape))
                values.add_(torch.from_numpy(noise).float())
        end = time.monotonic() + self.config.pause
        while time.monotonic() < end:
            torch.zeros(100, 100) @ torch.zeros(100, 100)
            if not keep_going():
                raise TrainingInterrupted
        rollout = self.robot.rollout(
            trial, np.array(self.config.start), seed=self.rollout_seed(0), sampled=self.config.sampled
        )
        self.rollouts += 1
        if self._consider(trial, rollout.total_return):
            self.weights = trial
        return Progress(0, rollout.total_return, loss=float(len(rollout)))

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return policy_arrays(self.weights), {}

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        self.weights.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


if __name__ == "__main__":
    from mbrl_policy.nodes.trainer_node import main

    sys.exit(main())
