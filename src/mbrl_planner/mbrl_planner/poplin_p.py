# SPDX-License-Identifier: Apache-2.0
"""POPLIN in parameter space: CEM over what is added to a policy's weights."""

from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.config import parameter
from mbrl_dynamics.closed_loop import BatchPolicy
from mbrl_planner.planner import Actions
from mbrl_planner.poplin import PoplinConfig
from mbrl_planner.poplin_closed_loop import ClosedLoopCem
from mbrl_planner.registry import PLANNERS


@dataclass(frozen=True)
class PoplinPConfig(PoplinConfig):
    """Parameters of POPLIN-P."""

    noise: str = parameter(
        "uniform",
        "uniform perturbs the weights alike at all steps of a plan, separate each step on its own",
        choices=("uniform", "separate"),
    )


@PLANNERS.register("poplin_p", PoplinPConfig)
class PoplinP(ClosedLoopCem):
    kind = "poplin_p"
    config: PoplinPConfig

    def _shape(self) -> tuple[int, ...]:
        return (self.config.horizon if self.config.noise == "separate" else 1, self.policy.weight_count)

    def _std(self) -> Actions:
        return np.float32(self.config.initial_std) * self.policy.weight_scales().numpy()

    def _moved(self, values: Actions, passed: int) -> Actions:
        return self._shifted(values, passed) if self.config.noise == "separate" else values

    def _policy(self, candidates: torch.Tensor) -> BatchPolicy:
        weights = self.policy.weights() + candidates

        def act(states: torch.Tensor, step: int) -> torch.Tensor:
            return self.policy.act_with(weights[:, min(step, weights.shape[1] - 1)], states)

        return act
