# SPDX-License-Identifier: Apache-2.0
"""POPLIN in action space, open loop: CEM around the actions that a policy would take."""

from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.specs import Array
from mbrl_planner.cem import Cem
from mbrl_planner.planner import Actions
from mbrl_planner.poplin import PolicyPlanner, PoplinConfig
from mbrl_planner.registry import PLANNERS


@dataclass(frozen=True)
class PoplinAInitConfig(PoplinConfig):
    """Parameters of POPLIN-A-Init."""


@PLANNERS.register("poplin_a_init", PoplinAInitConfig)
class PoplinAInit(PolicyPlanner, Cem):
    """POPLIN-A-Init of Wang and Ba 2019, "Exploring Model-based Planning with Policy Networks" (arXiv:1906.08649,
    section 4.1): CEM over residuals d on the actions of the policy's own rollout,

        a^_t = pi(s^_t),  s^_(t+1) = f(s^_t, a^_t);    max over d of E sum_t r(s_t, a^_t + d_t),
        s_(t+1) = f(s_t, a^_t + d_t)

    which is CEM whose first mean is a^ + d, where d is what the last plan had added to its own a^, shifted.

    The policy's rollout costs one more candidate a plan. Until the policy has learned anything, a^ is the centre of
    the limits whatever the state, no rollout is done, and every plan is that of CEM.
    """

    kind = "poplin_a_init"
    config: PoplinAInitConfig

    def reset(self) -> None:
        super().reset()
        self._reference: Actions = self._central_actions()

    def _begin(self, passed: int) -> None:
        super()._begin(passed)
        self._reference = self._shifted(self._reference, passed, self.centre)

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        if index == 0 and self.policy.trained:
            reference = self._policy_rollout(state)
            self._mean = np.clip(reference + (self._mean - self._reference), self.lower, self.upper)
            self._reference = reference
        super()._iterate(state, index, last)

    def _policy_rollout(self, state: Array) -> Actions:
        """Actions [H, action_size] of the policy without anything added."""
        returns, actions = self.objective.closed_loop(
            state, lambda states, step: self.policy.act(states), 1, self.config.horizon
        )
        # A policy that drives the model out of all bounds proposes nothing.
        usable = bool(torch.isfinite(returns).all()) and bool(torch.isfinite(actions).all())
        return actions[0].numpy() if usable else self._central_actions()
