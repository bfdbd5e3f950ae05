# SPDX-License-Identifier: Apache-2.0
"""Simulates a robot file in DART, Gazebo's physics, behind the interface that ros2_control shows."""

from dataclasses import dataclass
from pathlib import Path

from mbrl_core.config import parameter
from mbrl_core.robot_description.dart import GAZEBO_STEP, SYSTEM_PYTHON
from mbrl_core.robot_file import Robot
from mbrl_robot.dart_simulation import DartSimulation
from mbrl_robot.nodes.simulation_node import SimulationConfiguration, SimulationNode
from mbrl_ros.process import run


@dataclass(frozen=True)
class DartConfiguration(SimulationConfiguration):
    """Parameters of dart_node."""

    description_file: str = parameter(
        "", "SDF or URDF to simulate; empty: sdf/NAME.sdf beside the folder of the robot file's mjcf/NAME.xml",
        read_only=True,
    )  # fmt: skip
    timestep: float = parameter(
        GAZEBO_STEP, "Time step in s, of which the control period is a multiple; the default is that of Gazebo's world",
        minimum=1e-5, maximum=0.1, read_only=True,
    )  # fmt: skip
    python: str = parameter(SYSTEM_PYTHON, "The Python that has dartpy", read_only=True)


class DartNode(SimulationNode):
    """Joint states come as often as from mujoco_node; the time step is another."""

    def __init__(self) -> None:
        super().__init__("dart", DartConfiguration)

    def _simulate(self, robot: Robot, configuration: DartConfiguration) -> DartSimulation:
        description = Path(configuration.description_file) if configuration.description_file else None
        return DartSimulation(robot, configuration.timestep, description, configuration.python)


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(DartNode)
