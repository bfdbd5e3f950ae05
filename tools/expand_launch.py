#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what the real `ros2 launch` makes of the launch files, which the runner is tested against.

Needs a machine with ROS 2 where this workspace is built and sourced:

    python3 tools/expand_launch.py

Packages of ros2_control come from the tests' stand-in, whose xacro writes the same on every machine.
Every node is started with a prefix that notes its command line and the parameter files it would have read, and
then waits to be stopped, so that what is written is what nodes are really given. One file per case goes to
src/mbrl_bringup/test/expansions/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "src" / "mbrl_bringup" / "test"
TARGET = TESTS / "expansions"
FIXTURES = "src/mbrl_bringup/test/launch_files"

sys.path.insert(0, str(TESTS))
from stand_in_packages import make_prefix  # noqa: E402

# Name of the case: launch file, arguments.
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "mbrl_default": ("launch/mbrl.launch.yaml", {}),
    "mbrl_lockstep": (
        "launch/mbrl.launch.yaml",
        {"robot": "pendulum", "mode": "lockstep", "planner": "cem", "seed": "7", "trials": "3", "record": "false"},
    ),
    "mbrl_namespace": (
        "launch/mbrl.launch.yaml",
        {"namespace": "fleet/one", "robot": "reacher", "task": "reacher_target", "algorithm": "mbrl_0_5"},
    ),
    "mbrl_no_backend": (
        "launch/mbrl.launch.yaml",
        {"backend": "none", "dynamics": "linear", "planner": "mppi", "run_directory": "/tmp/a run"},
    ),
    "mbrl_dart": ("launch/mbrl.launch.yaml", {"backend": "dart", "robot": "reacher", "namespace": "fleet/one"}),
    "mbrl_reward": (
        "launch/mbrl.launch.yaml",
        {
            "robot": "pendulum",
            "reward": "/tmp/a run/checkpoints/reward.safetensors",
            "record": "false",
            "watchdog": "false",
        },
    ),
    "mbrl_distil": (
        "launch/mbrl.launch.yaml",
        {"algorithm": "distil", "namespace": "fleet/one", "robot": "pendulum", "run_directory": "/tmp/a run"},
    ),
    "mbrl_respawn": ("launch/mbrl.launch.yaml", {"respawn": "true", "faults": "true"}),
    "mbrl_own_robot": ("launch/mbrl.launch.yaml", {"robot": "/tmp/a robot/own.yaml", "algorithm": "gps"}),
    "record_own_robot": ("launch/record.launch.yaml", {"robot": "/tmp/a robot/own.yaml"}),
    "mujoco_default": ("launch/mujoco.launch.yaml", {}),
    "mujoco_lockstep": ("launch/mujoco.launch.yaml", {"robot": "acrobot", "mode": "lockstep"}),
    "mujoco_faults": ("launch/mujoco.launch.yaml", {"robot": "pendulum", "faults": "true"}),
    "dart_default": ("launch/dart.launch.yaml", {}),
    "dart_changed": (
        "launch/dart.launch.yaml",
        {"robot": "reacher", "mode": "lockstep", "timestep": "0.001", "description": "/tmp/a robot.urdf"},
    ),
    "dart_faults": ("launch/dart.launch.yaml", {"robot": "pendulum", "faults": "true", "respawn": "true"}),
    "policy_default": ("launch/policy.launch.yaml", {}),
    "policy_changed": (
        "launch/policy.launch.yaml",
        {
            "namespace": "fleet/one",
            "mode": "lockstep",
            "always_on": "true",
            "policy_file": "/tmp/a run/policy.safetensors",
        },
    ),
    "record_default": ("launch/record.launch.yaml", {}),
    "record_beside": (
        "launch/record.launch.yaml",
        {"with_robot": "false", "namespace": "fleet/one", "share": "0.5", "released": "policy", "robot": "reacher"},
    ),
    "imitate_default": ("launch/imitate.launch.yaml", {}),
    "imitate_changed": (
        "launch/imitate.launch.yaml",
        {"namespace": "fleet/one", "robot": "reacher", "policy": "rbf", "run_directory": "/tmp/a run"},
    ),
    "irl_default": ("launch/irl.launch.yaml", {}),
    "irl_changed": (
        "launch/irl.launch.yaml",
        {"namespace": "fleet/one", "robot": "pendulum", "planner": "ilqr", "run_directory": "/tmp/a run"},
    ),
    "hardware_default": ("launch/hardware.launch.yaml", {}),
    "hardware_changed": (
        "launch/hardware.launch.yaml",
        {
            "namespace": "fleet/one",
            "robot": "pendulum",
            "hardware": "own_driver/System",
            "reset": "homing",
        },
    ),
    "mbrl_hardware": (
        "launch/mbrl.launch.yaml",
        {"backend": "hardware", "robot": "arm", "dry_run": "true", "reset": "homing", "namespace": "fleet/one"},
    ),
    "record_hardware": ("launch/record.launch.yaml", {"backend": "hardware", "robot": "pendulum", "reset": "none"}),
    "train_default": ("launch/train.launch.yaml", {}),
    "train_changed": (
        "launch/train.launch.yaml",
        {
            "namespace": "fleet/one",
            "mode": "lockstep",
            "planner": "ilqr",
            "policy": "rbf",
            "robot": "reacher",
            "seed": "7",
        },
    ),
    "gazebo_ros2_control": ("launch/gazebo.launch.yaml", {}),
    "gazebo_bridge": ("launch/gazebo.launch.yaml", {"path": "bridge", "robot": "pendulum", "gui": "false"}),
    "view_default": ("launch/view.launch.yaml", {"robot": "pendulum"}),
    "view_own_robot": ("launch/view.launch.yaml", {"robot": "/tmp/a robot/own.yaml", "frames": "false"}),
    "view_in_gazebo": (
        "launch/view.launch.yaml",
        {"robot": "arm", "frames": "false", "use_sim_time": "true", "namespace": "fleet/one"},
    ),
    "mbrl_gazebo": ("launch/mbrl.launch.yaml", {"backend": "gazebo", "robot": "pendulum"}),
    "mbrl_gazebo_bridge": (
        "launch/mbrl.launch.yaml",
        {"backend": "gazebo", "path": "bridge", "gui": "false", "namespace": "fleet/one"},
    ),
    "features_default": (f"{FIXTURES}/features.launch.yaml", {}),
    "features_changed": (
        f"{FIXTURES}/features.launch.yaml",
        {"count": "12", "flag": "false", "word": "0.5", "where": "deep/down"},
    ),
}


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Write what the real `ros2 launch` makes of the launch files.")
    parser.add_argument("--ros2", default="ros2", help="the ros2 command; default: %(default)s")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(make_prefix(Path(folder)))
        _write(options)
    return 0


def _write(options: argparse.Namespace) -> None:
    for name in options.cases or CASES:
        file, arguments = CASES[name]
        nodes = expand(options.ros2, ROOT / file, arguments)
        content = {"file": file, "arguments": arguments, "nodes": nodes}
        (TARGET / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {len(nodes)} nodes")


def expand(ros2: str, file: Path, arguments: dict[str, str]) -> list[dict[str, Any]]:
    """The nodes that `ros2 launch` starts, in normal form.

    Raises:
        RuntimeError: it started none.
    """
    with tempfile.TemporaryDirectory() as folder:
        notes, logs = Path(folder, "notes"), Path(folder, "logs")
        notes.mkdir()
        # Packages that need not be installed for this: the launch files are expanded, no node of theirs is started.
        os.environ.update(make_prefix(Path(folder, "prefix")))
        prefix = shlex.join([sys.executable, str(Path(__file__).resolve()), "--note", str(notes)])
        command = [ros2, "launch", "--noninteractive", "--launch-prefix", prefix, str(file)]
        command += [f"{name}:={value}" for name, value in arguments.items()]
        process = subprocess.Popen(
            command,
            env={**os.environ, "ROS_LOG_DIR": str(logs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        _wait_until_settled(notes, process)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        found = [json.loads(note.read_text(encoding="utf-8")) for note in notes.glob("*.json")]
        if not found:
            raise RuntimeError(f"{file} {arguments}: no node was started:\n{output}")
        nodes = [_node(note, logs) for note in found]
    return sorted(nodes, key=lambda node: (node["namespace"] or "", node["name"] or "", node["executable"]))


def _wait_until_settled(notes: Path, process: subprocess.Popen[str]) -> None:
    count, since = 0, time.monotonic()
    while process.poll() is None and time.monotonic() - since < (3.0 if count else 20.0):
        time.sleep(0.1)
        now = len(list(notes.glob("*.json")))
        if now != count:
            count, since = now, time.monotonic()


def note(folder: Path, command: list[str]) -> None:
    """Runs in place of a node: keep its command line and parameter files, then wait for the end."""
    files = {
        command[position + 1]: Path(command[position + 1]).read_text(encoding="utf-8")
        for position, word in enumerate(command)
        if word == "--params-file"
    }
    unfinished = folder / f"{os.getpid()}.unfinished"
    unfinished.write_text(json.dumps({"command": command, "files": files}), encoding="utf-8")
    unfinished.rename(folder / f"{os.getpid()}.json")
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(0))
    signal.pause()


def _node(note: dict[str, Any], logs: Path) -> dict[str, Any]:
    command = note["command"]
    program = Path(command[0])
    node: dict[str, Any] = {
        "package": program.parent.name,
        "executable": program.name,
        "name": None,
        "namespace": None,
        "parameters": [],
        "remappings": [],
    }
    arguments = [_portable(word, logs) for word in command[1 : command.index("--ros-args")]]
    if arguments:
        node["arguments"] = arguments
    words = iter(command[command.index("--ros-args") + 1 :])
    for word in words:
        value = next(words)
        if word == "--params-file":
            node["parameters"].append(_parameters(value, note["files"][value], logs))
        elif word == "-r":
            old, _, new = value.partition(":=")
            if old in ("__node", "__ns"):
                node["name" if old == "__node" else "namespace"] = new
            else:
                node["remappings"].append([old, new])
        else:
            raise RuntimeError(f"unexpected argument {word} in {command}")
    return node


def _parameters(file: str, content: str, logs: Path) -> Any:
    import yaml

    if not Path(file).name.startswith("launch_params_"):
        return _portable(file, logs)
    return {
        owner: {name: _portable(value, logs) for name, value in entry["ros__parameters"].items()}
        for owner, entry in yaml.safe_load(content).items()
    }


def _portable(value: Any, logs: Path) -> Any:
    """Without the paths of this machine."""
    if not isinstance(value, str):
        return value
    value = re.sub(re.escape(str(logs)) + r"/[^/\s]+", "$(log_dir)", value)
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        value = re.sub(re.escape(prefix) + r"/share/([a-z0-9_]+)", r"$(find-pkg-share \1)", value)
    return value


if __name__ == "__main__":
    if sys.argv[1:2] == ["--note"]:
        note(Path(sys.argv[2]), sys.argv[3:])
        sys.exit(0)
    sys.exit(main())
