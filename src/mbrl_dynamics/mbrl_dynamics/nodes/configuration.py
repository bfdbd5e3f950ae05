# SPDX-License-Identifier: Apache-2.0
"""Parameters of learner_node beside those of the model (`dynamics.`) and of learning (`learner.`)."""

from dataclasses import dataclass

from mbrl_core.config import parameter

MODES = ("realtime", "lockstep")


@dataclass(frozen=True)
class LearnerNodeConfig:
    """Parameters of learner_node; everything that depends on the robot comes with the robot_spec message."""

    mode: str = parameter(
        "realtime",
        "realtime: fits in the background while the robot moves; lockstep: fits before it answers a time step",
        choices=MODES,
        read_only=True,
    )
    seed: int = parameter(0, "seed of all random streams", minimum=0, read_only=True)
    run_directory: str = parameter(
        "", "folder of the run, checkpoints go to its folder `checkpoints`; empty writes none", read_only=True
    )
    robot_file: str = parameter(
        "", "path of the robot file, for kinds of model that know the robot's physics; others do not look at it",
        read_only=True,
    )  # fmt: skip
    bag: str = parameter(
        "", "what to learn from before the robot moves: a bag, also one of joint states and commands alone, the folder"
        " of a run, or a .npz file of transitions; a checkpoint of the run directory takes its place", read_only=True,
    )  # fmt: skip
    resume: bool = parameter(
        True, "go on from the newest checkpoint of the run directory, if there is one", read_only=True
    )
    niceness: int = parameter(
        19, "scheduling priority of the training thread in realtime: 0 normal, 19 lowest", minimum=0, maximum=19,
        read_only=True,
    )  # fmt: skip


@dataclass(frozen=True)
class DynamicsKind:
    """Which model; its own parameters stand beside `kind` in the same group."""

    kind: str = parameter(
        "ensemble", "registered dynamics model, for instance ensemble, linear or mujoco", read_only=True
    )
