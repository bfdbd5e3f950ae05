# SPDX-License-Identifier: Apache-2.0
"""trainer_node, the robot and whoever asks it to train, as processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from ament_index_python.packages import get_package_prefix
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from search_trainer import KIND

from mbrl_core.config import load_preset
from mbrl_core.policies import policy_arrays
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_msgs.action import Train
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_msgs.msg import Task, TimeStep
from mbrl_policy.nodes.policy_message import policy_from_message
from mbrl_ros import qos
from mbrl_ros.conversions import task_to_message

CONFIG = Path(__file__).resolve().parents[3] / "config"
ROBOT_FILE = CONFIG / "robots" / "pendulum.yaml"
ROBOT = load_robot(ROBOT_FILE)
TASK = task_of_preset(load_preset(CONFIG / "tasks" / f"{ROBOT.task}.yaml", "task"))
STEPS = 15
LINEAR = {"policy": {"kind": "linear"}}


class Graph:
    """Robot, trainer and whoever asks it to train."""

    def __init__(self, folder: Path, mode: str, domain: int, task: bool = True) -> None:
        self.folder, self.mode, self._domain = folder, mode, domain
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.time_steps: list[TimeStep] = []
        self.policies: list[PolicyMessage] = []
        self.rewards: list[Task] = []
        self.feedback: list[Train.Feedback] = []
        self.figures: dict[str, str] = {}
        self._steps = self.node.create_subscription(TimeStep, "time_step", self.time_steps.append, qos.TIME_STEP_RECORD)
        self.node.create_subscription(PolicyMessage, "policy", self.policies.append, qos.LATCHED)
        self.node.create_subscription(Task, "learned_reward", self.rewards.append, qos.LATCHED)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)
        self._task = self.node.create_publisher(Task, "task", qos.LATCHED)
        if task:
            self._task.publish(task_to_message(TASK, ROBOT.spec.interface_hash, Time()))
        self.client = ActionClient(self.node, Train, "train")
        for name, executable in (("mujoco", "mujoco_node"), ("robot", "robot_node")):
            program = str(Path(get_package_prefix("mbrl_robot")) / "lib" / "mbrl_robot" / executable)
            self.start(name, [program], robot_file=ROBOT_FILE, mode=mode)

    def start_trainer(self, **changes: Any) -> None:
        """Starts trainer_node and waits until it serves the action."""
        program = [sys.executable, str(Path(__file__).with_name("search_trainer.py"))]
        values = {"robot_file": ROBOT_FILE, "mode": self.mode, "episode_steps": STEPS, "run_directory": self.folder}
        self.start("trainer", program, **{**values, **changes})
        self.wait(self.client.server_is_ready, "the trainer")
        self.wait(self._steps.get_publisher_count, "the robot")

    def start(self, name: str, program: list[str], **values: Any) -> None:
        given = [word for key, value in values.items() for word in ("-p", f"{key}:={value}")]
        environment = {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
            "FASTDDS_DEFAULT_PROFILES_FILE": str(CONFIG / "dds" / "fastdds_local.xml"),
            **os.environ, "ROS_DOMAIN_ID": str(self._domain),
        }  # fmt: skip
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [*program, "--ros-args", "-r", f"__node:={name}", *given],
                env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "/trainer":
                self.figures = {item.key: item.value for item in status.values}

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            logs = "\n".join(f"--- {name}\n{self.log(name)}" for name in self.processes)
            assert time.monotonic() < end, f"waited {seconds} s for {what}\n{logs}"
            self._executor.spin_once(timeout_sec=0.05)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def send(self, algorithm: str = KIND, configuration: Any = None, **fields: Any) -> Any:
        """Sends a goal; returns its handle."""
        text = configuration if isinstance(configuration, str) else json.dumps({**LINEAR, **(configuration or {})})
        goal = Train.Goal(algorithm=algorithm, configuration=text, **fields)
        sent = self.client.send_goal_async(goal, feedback_callback=lambda said: self.feedback.append(said.feedback))
        self.wait(sent.done, "an answer of the trainer")
        assert sent.result().accepted
        return sent.result()

    def result(self, handle: Any) -> Train.Result:
        future = handle.get_result_async()
        self.wait(future.done, "the result")
        return future.result().result

    def train(self, *arguments: Any, **fields: Any) -> Train.Result:
        return self.result(self.send(*arguments, **fields))

    def arrays(self) -> dict[str, np.ndarray]:
        """Of the newest policy."""
        return policy_arrays(policy_from_message(self.policies[-1], ROBOT.spec))

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
