# SPDX-License-Identifier: Apache-2.0
"""Simulates a robot file in MuJoCo behind the interface that ros2_control shows."""

from dataclasses import dataclass

from mbrl_core.robot_file import Robot
from mbrl_robot.nodes.simulation_node import SimulationConfiguration, SimulationNode
from mbrl_robot.simulation import MujocoSimulation
from mbrl_ros.process import run


@dataclass(frozen=True)
class MujocoConfiguration(SimulationConfiguration):
    """Parameters of mujoco_node."""


class MujocoNode(SimulationNode):
    """Joint states come every MJCF time step / realtime_substeps in realtime, every control period in lockstep."""

    def __init__(self) -> None:
        super().__init__("mujoco", MujocoConfiguration)

    def _simulate(self, robot: Robot, configuration: MujocoConfiguration) -> MujocoSimulation:
        substeps = robot.simulation.realtime_substeps if configuration.mode == "realtime" else 1
        return MujocoSimulation(robot, substeps)


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(MujocoNode)
