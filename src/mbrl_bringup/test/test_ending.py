# SPDX-License-Identifier: Apache-2.0
"""Every node, ended by a signal, leaves nothing of the middleware behind: it can then be ended without further ado."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_share_directory

from mbrl_core.robot_description.dart import available

ROBOT = Path(get_package_share_directory("mbrl_bringup")) / "config" / "robots" / "cartpole.yaml"
PROGRAM = """
import importlib, sys
module = importlib.import_module(sys.argv.pop(1))
print("loaded", flush=True)
status = module.main()
from mbrl_ros.process import has_left_the_graph
print("left" if has_left_the_graph() else "still there", status, flush=True)
"""
NODES = {
    "mbrl_robot.nodes.mujoco_node": {"robot_file": ROBOT},
    **({"mbrl_robot.nodes.dart_node": {"robot_file": ROBOT}} if available() else {}),
    "mbrl_robot.nodes.robot_node": {"robot_file": ROBOT},
    "mbrl_robot.nodes.command_splitter_node": {"robot_file": ROBOT},
    "mbrl_robot.nodes.gazebo_reset_node": {"robot_file": ROBOT},
    "mbrl_robot.nodes.markers_node": {"robot_file": ROBOT},
    "mbrl_dynamics.nodes.learner_node": {},
    "mbrl_planner.nodes.planner_node": {},
    "mbrl_policy.nodes.explore_node": {"robot_file": ROBOT},
    "mbrl_policy.nodes.policy_node": {},
    "mbrl_policy.nodes.recorder_node": {"robot_file": ROBOT, "run_directory": "run"},
    "mbrl_bringup.nodes.experiment_node": {"robot_file": ROBOT, "run_directory": "run"},
}


@pytest.mark.parametrize("module", NODES)
def test_an_ended_node_leaves_nothing_behind(module: str, tmp_path: Path, free_domain: int) -> None:
    command = [sys.executable, "-c", PROGRAM, module, "--ros-args"]
    for name, value in NODES[module].items():
        command += ["-p", f"{name}:={value}"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "ROS_DOMAIN_ID": str(free_domain)}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)  # until it spins; on a slow machine it may not yet, which must not matter
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=10.0)
    finally:
        process.kill()
    assert output.splitlines()[-1] == "left 0"
