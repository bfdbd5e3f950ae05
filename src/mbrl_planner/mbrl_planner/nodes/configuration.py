# SPDX-License-Identifier: Apache-2.0
"""Parameters of planner_node beside those of its planner."""

from dataclasses import dataclass

from mbrl_core.config import parameter

MODES = ("realtime", "lockstep")


@dataclass(frozen=True)
class PlannerNodeConfig:
    """Parameters of planner_node; everything that depends on the robot comes with the robot_spec message."""

    mode: str = parameter(
        "realtime", "realtime: plans by a deadline; lockstep: fixed iterations, same seed same bytes", choices=MODES
    )
    seed: int = parameter(0, "seed of all random streams", minimum=0)
    controller: str = parameter("planner", "name in the robot's controller chain")
    always_on: bool = parameter(False, "also plan while another controller is selected, ready to take over at any step")
    delay_steps: int = parameter(
        -1, "steps between the state and the first row of its plan; -1 measures it in realtime and is 0 in lockstep",
        minimum=-1, maximum=100,
    )  # fmt: skip
    command_offset: float = parameter(
        0.0, "seconds after the sample at which the robot sends an interval's action, as in the robot file", minimum=0.0
    )
    deadline_fraction: float = parameter(
        0.65, "realtime: share of the control period in which a plan has to be found", minimum=0.01, maximum=100.0
    )
    replan: bool = parameter(True, "plan at every step; false plans once an episode and then follows that plan")
    open_loop_horizon: int = parameter(200, "steps of the one plan when replan is false", minimum=1, maximum=2000)
    plan_rows: int = parameter(0, "rows to publish of each plan; 0 publishes all", minimum=0, maximum=2000)


@dataclass(frozen=True)
class PlannerKind:
    """Which planner; its own parameters stand beside `kind` in the same group."""

    kind: str = parameter("icem", "registered planner, for instance icem, cem, mppi or random_shooting")
