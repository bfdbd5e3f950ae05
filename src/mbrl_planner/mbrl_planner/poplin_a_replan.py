# SPDX-License-Identifier: Apache-2.0
"""POPLIN in action space, closed loop: CEM over what is added to a policy's answers."""

from dataclasses import dataclass

import numpy as np
import torch

from mbrl_dynamics.closed_loop import BatchPolicy
from mbrl_planner.planner import Actions
from mbrl_planner.poplin import PoplinConfig
from mbrl_planner.poplin_closed_loop import ClosedLoopCem
from mbrl_planner.registry import PLANNERS


@dataclass(frozen=True)
class PoplinAReplanConfig(PoplinConfig):
    """Parameters of POPLIN-A-Replan."""


@PLANNERS.register("poplin_a_replan", PoplinAReplanConfig)
class PoplinAReplan(ClosedLoopCem):
    """POPLIN-A-Replan of Wang and Ba 2019, "Exploring Model-based Planning with Policy Networks" (arXiv:1906.08649,
    section 4.1): CEM over residuals d on the policy's answers to the states that they lead to,

        max over d of E sum_t r(s_t, a_t),    a_t = pi(s_t) + d_t,    s_(t+1) = f(s_t, a_t)

    with a_t within the limits. The best candidate is executed.
    """

    kind = "poplin_a_replan"
    config: PoplinAReplanConfig

    def _shape(self) -> tuple[int, ...]:
        return (self.config.horizon, self.spec.action.size)

    def _std(self) -> Actions:
        return np.float32(self.config.initial_std) * self.half_range

    def _moved(self, values: Actions, passed: int) -> Actions:
        return self._shifted(values, passed, 0.0)

    def _policy(self, candidates: torch.Tensor) -> BatchPolicy:
        lower, upper = torch.from_numpy(self.lower), torch.from_numpy(self.upper)

        def act(states: torch.Tensor, step: int) -> torch.Tensor:
            return (self.policy.act(states) + candidates[:, step, None]).clamp(lower, upper)

        return act
