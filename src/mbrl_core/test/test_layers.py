# SPDX-License-Identifier: Apache-2.0
"""Dependencies go one way, and processes that need no torch do not load it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
# What each package may import of the suite.
ALLOWED = {
    "mbrl_core": set(),
    "mbrl_ros": {"mbrl_msgs", "mbrl_core"},
    "mbrl_robot": {"mbrl_msgs", "mbrl_core", "mbrl_ros"},
    "mbrl_dynamics": {"mbrl_msgs", "mbrl_core", "mbrl_ros"},
    "mbrl_planner": {"mbrl_msgs", "mbrl_core", "mbrl_ros", "mbrl_dynamics"},
    "mbrl_policy": {"mbrl_msgs", "mbrl_core", "mbrl_ros", "mbrl_dynamics", "mbrl_planner"},
}
ROS = {"rclpy", "std_msgs", "sensor_msgs", "diagnostic_msgs", "mbrl_msgs", "mbrl_ros"}
# Bags are a ROS format: reading and writing them needs the message definitions.
ROS_FORMATS = ("messages.py", "bag_writer.py", "bags.py")
ROS_DATA = "data"  # a folder of them
TORCH_FREE = (
    "mbrl_robot.nodes.mujoco_node",
    "mbrl_robot.nodes.dart_node",
    "mbrl_robot.nodes.robot_node",
    "mbrl_robot.nodes.hardware_node",
    "mbrl_policy.nodes.recorder_node",
    "mbrl_policy.nodes.explore_node",
    "mbrl_policy.nodes.teleop_node",
    "mbrl_bringup.nodes.experiment_node",
)


def imports(path: Path) -> set[tuple[str, str]]:
    """(top-level package, dotted name) of every import in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name.partition(".")[0], alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add((node.module.partition(".")[0], node.module))
            found |= {(node.module.partition(".")[0], f"{node.module}.{alias.name}") for alias in node.names}
    return found


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_dependencies_go_one_way(package: str) -> None:
    files = sorted((SOURCE / package / package).rglob("*.py"))
    assert files
    for path in files:
        for top, name in imports(path):
            if top.startswith("mbrl_") and top != package:
                assert top in ALLOWED[package], f"{path} imports {name}"
                assert not any(part.startswith("_") for part in name.split(".")), f"{path} imports private {name}"
            if not {"nodes", ROS_DATA} & set(path.relative_to(SOURCE).parts) and package != "mbrl_ros":
                assert top not in ROS or path.name in ROS_FORMATS, f"algorithm library {path} imports {name}"


@pytest.mark.parametrize("module", TORCH_FREE)
def test_nodes_without_learning_do_not_load_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
