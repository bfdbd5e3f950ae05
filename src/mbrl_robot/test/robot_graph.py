# SPDX-License-Identifier: Apache-2.0
"""Nodes as their own processes on a domain of their own, and a test node that talks to them over DDS."""

import array
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from mbrl_core.robot_file import load_robot
from mbrl_msgs.action import StartEpisode
from mbrl_msgs.msg import ControllerState, Plan, TimeStep
from mbrl_ros import qos

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
DISCOVERY = 15.0


class Graph:
    """Processes of this package and one test node named `planner`, which answers time steps by `self.answer`."""

    def __init__(self, domain: int) -> None:
        self._domain = domain
        self._processes: dict[str, tuple[subprocess.Popen[bytes], Any]] = {}
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("planner", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._nodes = [self.node]
        self.spec = load_robot(ROBOTS / "cartpole.yaml").spec
        self.time_steps: list[TimeStep] = []
        self.controller_states: list[ControllerState] = []
        self.phases: list[str] = []
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.answer: Callable[[TimeStep], Plan | None] = lambda time_step: None
        self.plans = self.node.create_publisher(Plan, "plan", qos.PLAN)
        self.node.create_subscription(TimeStep, "time_step", self._take_time_step, qos.TIME_STEP_RECORD)
        self.node.create_subscription(ControllerState, "controller_state", self.controller_states.append, qos.LATCHED)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, qos.STATUS)
        self.starts = ActionClient(self.node, StartEpisode, "start_episode")

    def _take_time_step(self, message: TimeStep) -> None:
        self.time_steps.append(message)
        if message.step_type != TimeStep.LAST:
            plan = self.answer(message)
            if plan is not None:
                self.plans.publish(plan)

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            self.diagnostics[status.name] = {**values, "message": status.message}

    def context_node(self, name: str) -> Node:
        """Another node of the test, spun together with the first."""
        node = rclpy.create_node(name, context=self.context)
        self.executor.add_node(node)
        self._nodes.append(node)
        return node

    def start(
        self,
        name: str,
        remap: dict[str, str] | None = None,
        parameter_file: Path | None = None,
        program: Path | None = None,
        **parameters: Any,
    ) -> subprocess.Popen[bytes]:
        """Starts a node of this package or a Python program, names changed by `remap`; `output` keeps what it says."""
        parameters.setdefault("robot_file", ROBOTS / "cartpole.yaml")
        command = [
            sys.executable,
            *(
                [str(program)]
                if program
                else ["-c", f"from mbrl_robot.nodes.executables import {name}_node; {name}_node()"]
            ),
            "--ros-args",
        ]
        for key, value in parameters.items():
            command += ["-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}"]
        if parameter_file is not None:
            command += ["--params-file", str(parameter_file)]
        for old, new in (remap or {}).items():
            command += ["-r", f"{old}:={new}"]
        environment = {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **os.environ, "ROS_DOMAIN_ID": str(self._domain),
        }  # fmt: skip
        log = tempfile.NamedTemporaryFile()  # noqa: SIM115 - lives as long as the process
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._processes[name] = (process, log)
        return process

    def output(self, name: str) -> str:
        """What a node has written so far."""
        return Path(self._processes[name][1].name).read_text()

    def stop(self, name: str, number: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """Signals a node and returns its exit status; fails the test when it does not end in time."""
        process = self._processes[name][0]
        process.send_signal(number)
        return process.wait(seconds)

    def wait(self, condition: Callable[[], Any], seconds: float = 10.0) -> None:
        """Spins until `condition` holds; fails the test with what the nodes said when it does not."""
        self.spin_until(condition, seconds)
        if not condition():
            said = "\n".join(f"--- {name}\n{self.output(name)}" for name in self._processes)
            pytest.fail(f"waited {seconds} s in vain\n{said}")

    def spin_until(self, condition: Callable[[], Any], seconds: float) -> None:
        """Spins until `condition` holds, for at most so many seconds."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def spin(self, seconds: float) -> None:
        """Spins for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.01)

    def call(self, service_type: Any, name: str, **fields: Any) -> Any:
        """Calls a service and returns its response."""
        client = self.node.create_client(service_type, name)
        self.wait(client.service_is_ready, DISCOVERY)
        future = client.call_async(service_type.Request(**fields))
        self.wait(future.done)
        self.node.destroy_client(client)
        return future.result()

    def send_goal(self, **fields: Any) -> Any:
        """Sends start_episode; returns the future of its result."""
        self.wait(self.starts.server_is_ready, DISCOVERY)
        self.phases.clear()
        for _ in range(3):
            sent = self.starts.send_goal_async(
                StartEpisode.Goal(**fields),
                feedback_callback=lambda message: self.phases.append(message.feedback.phase),
            )
            # A server that has not discovered the client's reader answers in vain; whoever hears nothing asks again.
            self.spin_until(sent.done, 3.0)
            if sent.done():
                break
        assert sent.result().accepted
        return sent.result().get_result_async()

    def start_episode(self, **fields: Any) -> StartEpisode.Result:
        """Calls start_episode and returns its result."""
        result = self.send_goal(**{"required_controllers": ["planner"], **fields})
        self.wait(result.done, 40.0)
        return result.result().result

    def episode(self, number: int, seconds: float = 15.0) -> list[TimeStep]:
        """Waits for LAST of an episode and returns all its time steps."""
        self.wait(lambda: self.of(number) and self.of(number)[-1].step_type == TimeStep.LAST, seconds)
        return self.of(number)

    def of(self, number: int) -> list[TimeStep]:
        """Time steps of an episode so far."""
        return [message for message in self.time_steps if message.episode == number]

    def refused(self, node: str, kind: str) -> int:
        """How many inputs of a kind a node has refused, as its diagnostics say."""
        return int(self.diagnostics.get(f"/{node}", {}).get(f"refused/{kind}", 0))

    def make_plan(self, time_step: TimeStep, delay: int = 0, **fields: Any) -> Plan:
        """A valid plan of 6 rows from the stream of the time step; `fields` replace what shall be wrong."""
        random = np.random.default_rng((time_step.episode, time_step.step))
        plan = Plan(
            version=Plan.VERSION,
            interface_hash=time_step.interface_hash,
            episode=time_step.episode,
            start_step=time_step.step + delay,
            answers_step=time_step.step,
            controller="planner",
            producer="test",
            horizon=6,
            actions=array.array("d", random.uniform(-0.5, 0.5, 6).tobytes()),
        )
        for name, value in fields.items():
            setattr(plan, name, value)
        return plan

    def close(self) -> None:
        """Ends all processes and the context."""
        for process, log in self._processes.values():
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            log.close()
        self.executor.shutdown()
        for node in self._nodes:
            node.destroy_node()
        rclpy.shutdown(context=self.context)
