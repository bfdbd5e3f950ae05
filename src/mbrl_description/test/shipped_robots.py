# SPDX-License-Identifier: Apache-2.0
"""The shipped robots and where their files lie."""

from functools import cache
from pathlib import Path

from mbrl_core.robot_description.export import Folders, not_for_gazebo
from mbrl_core.robot_description.mujoco_tree import CompiledRobot, compile_robot
from mbrl_core.robot_file import load_robot

PACKAGE = Path(__file__).parents[1]
REPOSITORY = PACKAGE.parents[1]
FOLDERS = Folders(PACKAGE, REPOSITORY / "config" / "gazebo")
WORLD = PACKAGE / "sdf" / "mbrl.world.sdf"
ROBOTS = ("acrobot", "arm", "arm_velocity", "cartpole", "pendulum", "reacher")


@cache
def compiled(name: str) -> CompiledRobot:
    """A shipped robot as MuJoCo compiles it."""
    return compile_robot(load_robot(REPOSITORY / "config" / "robots" / f"{name}.yaml"))


# arm_velocity has the arm's links: what moves alike need not be moved twice.
MOVED = tuple(name for name in ROBOTS if name != "arm_velocity")
IN_GAZEBO = tuple(name for name in ROBOTS if not not_for_gazebo(compiled(name)))
