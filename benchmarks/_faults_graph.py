# SPDX-License-Identifier: Apache-2.0
"""The graph that the bench `faults` spoils: mbrl.launch.yaml as a user starts it, with a policy beside it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from _offline import CONFIG

from mbrl_bringup.batch import launch_file
from mbrl_bringup.domains import range_of_this_machine
from mbrl_bringup.launch_runner.runner import LaunchRunner
from mbrl_core.policies import make_policy, save_policy
from mbrl_core.robot_file import Robot, load_robot

OBSERVER = Path(__file__).with_name("_faults_observer.py")
STALLS = Path(__file__).with_name("_faults_stalls.py")
CHAIN = ["planner", "policy"]
SLEW = 75.0  # 1/s: from zero to the limit in 40 ms
EPISODE_SECONDS = 40.0
CONTROLLERS = ("planner", "policy", "explore")
OTHERS = ("learner", "recorder", "watchdog", "experiment")
BACKEND = ("mujoco", "faulty_backend")
# A plan has to be there within a control period on two cores that a learner trains on as well.
PLANNER = {
    25: {"population_size": 40, "horizon": 20},
    100: {"population_size": 12, "horizon": 12, "iterations": 1, "elites": 4},
}
# How well it swings up is not the question.
MODEL = {"hidden_size": 32, "first_steps": 300, "refit_steps": 50}
LAUNCH = """launch:
  - include:
      file: {mbrl}
      arg:
        - {{name: robot, value: cartpole}}
        - {{name: faults, value: "true"}}
        - {{name: respawn, value: "true"}}
        - {{name: trials, value: "100000"}}
        - {{name: seed, value: "{seed}"}}
        - {{name: run_directory, value: {directory}}}
        - {{name: parameters, value: {directory}/parameters.yaml}}
  - include:
      file: {policy}
      arg:
        - {{name: policy_file, value: {directory}/policy.safetensors}}
        - {{name: always_on, value: "true"}}
        - {{name: respawn, value: "true"}}
        - {{name: parameters, value: {directory}/parameters.yaml}}
"""


def write_robot(directory: Path, rate: int) -> Path:
    """The cart-pole at that rate, with a chain of two controllers and a slew limit."""
    content = yaml.safe_load((CONFIG / "robots" / "cartpole.yaml").read_text(encoding="utf-8"))
    period = 1.0 / rate
    content["control"] |= {"period": period, "chain": CHAIN}
    content["episode_steps"] = round(EPISODE_SECONDS * rate)
    content["actions"][0]["slew"] = SLEW
    content["simulation"] |= {"command_timeout": 5.0 * period}
    if period < 0.02:
        model = load_robot(CONFIG / "robots" / "cartpole.yaml").mjcf
        mjcf = directory / "cartpole.xml"
        mjcf.write_text(f'<mujoco><include file="{model}"/><option timestep="{period}"/></mujoco>\n', encoding="utf-8")
        content["mjcf"] = str(mjcf)
        content["simulation"]["steps_per_control"] = 1
    # The task is looked for in ../tasks.
    folder = directory / "robots"
    folder.mkdir(parents=True)
    (directory / "tasks").symlink_to(CONFIG / "tasks")
    file = folder / f"cartpole_{rate}hz.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def write_parameters(directory: Path, robot_file: Path, rate: int) -> None:
    """The robot file for everybody, a planner that fits its period, and an experiment that gives up never."""
    mine = {"robot_file": str(robot_file)}
    content: dict[str, dict[str, Any]] = {node: dict(mine) for node in (*BACKEND, *OTHERS, "robot", "explore")}
    content["planner"] = {"planner": PLANNER[rate], "always_on": True}
    content["experiment"] |= {"refit": "once", "faults_in_a_row": 1_000_000}
    content["learner"] |= {"learner": {"refit_interval": 4 * rate, "first_fit": 4 * rate}, "dynamics": MODEL}
    text = {f"/**/{node}": {"ros__parameters": values} for node, values in content.items()}
    (directory / "parameters.yaml").write_text(yaml.safe_dump(text), encoding="utf-8")


def write_policy(file: Path, robot: Robot) -> None:
    """A linear policy: damps the cart, and knows nothing of the task."""
    policy = make_policy("linear", {}, robot.spec, 0)
    with torch.no_grad():
        policy.layer.bias.fill_(0.3)
        policy.layer.weight.fill_(0.05)
    save_policy(file, policy)


class Graph:
    """The nodes and the observer; `heard` is called with each of the observer's lines, from a thread of its own."""

    def __init__(self, directory: Path, rate: int, domain: int, seed: int, heard: Callable[[list[Any]], None]) -> None:
        directory.mkdir(parents=True)
        robot_file = write_robot(directory, rate)
        self.robot = load_robot(robot_file)
        self.directory = directory
        write_parameters(directory, robot_file, rate)
        write_policy(directory / "policy.safetensors", self.robot)
        mbrl = launch_file()
        file = directory / "faults.launch.yaml"
        text = LAUNCH.format(mbrl=mbrl, policy=mbrl.with_name("policy.launch.yaml"), directory=directory, seed=seed)
        file.write_text(text, encoding="utf-8")
        self.environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": range_of_this_machine(),
            "OMP_NUM_THREADS": "1",
        }
        self._runner = LaunchRunner(file, {}, directory, environment=self.environment)
        self._heard = heard
        self._observers: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def __enter__(self) -> "Graph":
        self._observe(OBSERVER, "--commands", self.robot.command_topic)
        for processor in sorted(os.sched_getaffinity(0)):
            self._observe(STALLS, str(processor))
        self._runner.start()
        return self

    def _observe(self, program: Path, *arguments: str) -> None:
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        listener = threading.Thread(target=self._listen, args=(process,), name=program.stem, daemon=True)
        listener.start()
        self._observers.append((process, listener))

    def __exit__(self, *problem: object) -> None:
        for state in self._runner.states():
            if state.pid is not None:
                _signal(state.pid, signal.SIGCONT)
        self._runner.stop()
        for process, listener in self._observers:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20.0)
            listener.join(20.0)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._heard(json.loads(line))

    def pid(self, node: str) -> int | None:
        """Process of a node, None while it does not run. Raises RuntimeError when the launch has ended."""
        if self._runner.poll() is not None:
            raise RuntimeError(f"the launch has ended; see {self.directory}/launch.log")
        return next((state.pid for state in self._runner.states() if state.label == node), None)

    def signal(self, node: str, number: int) -> int:
        """Signals a node; returns its process id. Raises RuntimeError when it does not run."""
        pid = self.pid(node)
        if pid is None:
            raise RuntimeError(f"{node} does not run; see {self.directory}/launch.log")
        _signal(pid, number)
        return pid


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
