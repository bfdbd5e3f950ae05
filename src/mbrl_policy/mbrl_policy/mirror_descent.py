# SPDX-License-Identifier: Apache-2.0
"""Coupling by mirror descent."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import Array
from mbrl_policy.couplings import COUPLINGS, Coupling, SupervisedTargets, TrajectoryTerms
from mbrl_policy.linear_gaussian import LinearGaussianController


@dataclass(frozen=True)
class MirrorDescentConfig:
    """Mirror descent has no parameters beside epsilon."""


@COUPLINGS.register("mirror_descent", MirrorDescentConfig)
class MirrorDescent(Coupling):
    """Montgomery and Levine 2016, "Guided policy search as approximate mirror descent", arXiv:1607.04614, algorithm 2.

        p <- argmin E_p l   subject to   KL(p || linearised pi) <= epsilon
        pi <- argmin sum E KL(pi || p)

    The constraint is about the policy, not the previous controller, so that no trajectory leaves what the policy can
    follow, and no multipliers are needed.
    """

    kind = "mirror_descent"
    config: MirrorDescentConfig

    def trajectory_terms(self, previous: LinearGaussianController, policy: LinearGaussianController) -> TrajectoryTerms:
        return TrajectoryTerms(policy, None)

    def targets(self, controller: LinearGaussianController, states: Array) -> SupervisedTargets:
        return SupervisedTargets(controller.means(states), controller.precisions, np.ones(self.horizon))
