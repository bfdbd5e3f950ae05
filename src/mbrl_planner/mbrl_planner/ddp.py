# SPDX-License-Identifier: Apache-2.0
"""Differential dynamic programming with limits on the actions."""

from mbrl_planner.ilqr import Ilqr, IlqrConfig
from mbrl_planner.registry import PLANNERS


@PLANNERS.register("ddp", IlqrConfig)
class Ddp(Ilqr):
    """DDP of Mayne 1966 ("A second-order gradient method for determining optimal trajectories of non-linear
    discrete-time systems") and Jacobson and Mayne 1970 ("Differential Dynamic Programming"): iLQR whose quadratic model
    has the curvature of the dynamics, too,

        Q_xx, Q_ux, Q_uu  +=  V_x . f_xx,  V_x . f_ux,  V_x . f_uu

    so that it converges quadratically near an optimum. Each iteration also takes the second derivatives of the
    dynamics. They make Q_uu indefinite more often than iLQR's: the regularisation then grows within the iteration.
    """

    kind = "ddp"
    second_order = True
