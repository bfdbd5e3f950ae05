# SPDX-License-Identifier: Apache-2.0
"""Another planner takes over while the robot moves: real processes in real time, and not one step is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from ament_index_python.packages import get_package_prefix
from builtin_interfaces.msg import Time
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from mbrl_bringup.domains import reserved_domain
from mbrl_core.dataset import Transitions
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.tasks import make_task
from mbrl_dynamics.nodes.model_message import model_to_message
from mbrl_dynamics.registry import make_model
from mbrl_msgs.action import StartEpisode
from mbrl_msgs.msg import Model, Plan, Task, TimeStep
from mbrl_ros import qos
from mbrl_ros.conversions import task_to_message

CONFIG = Path(__file__).resolve().parents[3] / "config"
PERIOD_FACTOR = 8  # of the robot's own period: what is tested is the graph, not how fast the machine is
BEFORE, AFTER = 10, 10  # steps of each planner at least
SMALL = ("planner.horizon:=6", "planner.population_size:=24", "planner.iterations:=2")


def slow_robot(folder: Path) -> Path:
    """The pendulum with a longer control period."""
    content = yaml.safe_load((CONFIG / "robots" / "pendulum.yaml").read_text())
    content["control"]["period"] *= PERIOD_FACTOR
    content["simulation"]["steps_per_control"] *= PERIOD_FACTOR
    content["simulation"]["command_timeout"] *= PERIOD_FACTOR
    path = folder / "slow_pendulum.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def model_message(robot: Robot, strength: float = 3.0) -> Model:
    """A small ensemble of a pendulum that only turns, as its motor's `strength` says; as many members as in presets."""
    random = np.random.default_rng(0)
    state, action = random.normal(size=(200, 2)), random.uniform(-1.0, 1.0, (200, 1))
    following = state + robot.spec.period * np.stack([state[:, 1], strength * action[:, 0]], axis=1)
    model = make_model("ensemble", {"hidden_size": 16, "first_steps": 30}, robot.spec, 0)
    model.fit(Transitions(state, action, following, np.zeros(200, dtype=int), np.arange(200)), 0)
    return model_to_message(model, 1, "test", Time())


class Graph:
    """Processes of the nodes, and what they say, in a ROS domain of their own."""

    def __init__(self, folder: Path, domain: int) -> None:
        self._folder = folder
        self.environment = {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **os.environ, "ROS_DOMAIN_ID": str(domain),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("test_swap", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.time_steps: list[TimeStep] = []
        self.plans: list[Plan] = []
        self.node.create_subscription(TimeStep, "time_step", self.time_steps.append, qos.TIME_STEP_RECORD)
        self.node.create_subscription(Plan, "plan", self.plans.append, qos.STATUS)

    def start(self, name: str, package: str, executable: str, *arguments: str) -> None:
        program = Path(get_package_prefix(package)) / "lib" / package / executable
        with open(self._folder / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(program), "--ros-args", "-r", f"__node:={name}", *arguments],
                env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            logs = "\n".join(f"--- {name}\n{(self._folder / f'{name}.log').read_text()}" for name in self.processes)
            assert time.monotonic() < end, f"waited {seconds} s for {what}\n{logs}"
            self._executor.spin_once(timeout_sec=0.05)

    def latest(self, controller: str) -> int:
        """The newest step that `controller` has planned for; -1 for none."""
        return max((plan.answers_step for plan in self.plans if plan.controller == controller), default=-1)

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


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with reserved_domain() as domain:
        made = Graph(tmp_path, domain)
        try:
            yield made
        finally:
            made.close()


def planner(graph: Graph, name: str, kind: str, *parameters: str) -> None:
    """Starts a planner of a preset, small, as a user would."""
    words = [word for parameter in (*SMALL, f"controller:={name}", *parameters) for word in ("-p", parameter)]
    preset = str(CONFIG / "planner" / f"{kind}.yaml")
    graph.start(name, "mbrl_planner", "planner_node", "--params-file", preset, *words)


def start_robot(graph: Graph, folder: Path) -> Robot:
    """Starts the simulation and robot_node with the slow pendulum."""
    robot_file = slow_robot(folder)
    graph.start("mujoco", "mbrl_robot", "mujoco_node", "-p", f"robot_file:={robot_file}")
    patient = ("-p", "joint_states_timeout:=2.0")
    graph.start("robot", "mbrl_robot", "robot_node", "-p", f"robot_file:={robot_file}", *patient)
    return load_robot(robot_file)


def test_a_planner_of_another_kind_takes_over_without_a_lost_step(graph: Graph, tmp_path: Path) -> None:
    robot = start_robot(graph, tmp_path)
    planner(graph, "planner", "icem")
    tasks = graph.node.create_publisher(Task, "task", qos.LATCHED)
    tasks.publish(task_to_message(make_task("pendulum_upright"), robot.spec.interface_hash, Time()))
    models = graph.node.create_publisher(Model, "model", qos.LATCHED)
    models.publish(model_message(robot))
    starts = ActionClient(graph.node, StartEpisode, "start_episode")
    graph.wait(lambda: starts.server_is_ready() and models.get_subscription_count() == 1, "the nodes")
    goal = StartEpisode.Goal(max_steps=10_000, controller="planner", required_controllers=["planner"])
    sent = starts.send_goal_async(goal)
    graph.wait(sent.done, "an answer of robot_node")
    graph.wait(lambda: graph.time_steps and graph.time_steps[-1].step >= BEFORE, "the first planner")

    planner(graph, "planner_b", "mppi", "always_on:=true")
    graph.wait(lambda: graph.latest("planner_b") >= 0, "a plan of the second planner, unselected")
    assert graph.time_steps[-1].controller == "planner"
    command = [sys.executable, "-c", "import sys; from mbrl_bringup.cli import main; sys.exit(main(sys.argv[1:]))"]
    select = subprocess.Popen(
        [*command, "select", "planner_b", "--timeout", "60"], env=graph.environment, stdout=subprocess.PIPE
    )
    graph.wait(lambda: select.poll() is not None, "./mbrl select")
    output = select.communicate()[0]
    assert select.returncode == 0 and output.startswith(b"planner_b is selected; planner_b serves"), output
    graph.processes["planner"].send_signal(signal.SIGINT)
    graph.wait(lambda: graph.processes["planner"].poll() is not None, "the first planner's end")
    assert graph.processes["planner"].returncode == 0
    stopped = graph.time_steps[-1].step
    graph.wait(lambda: graph.time_steps[-1].step >= stopped + AFTER, "the second planner alone")

    # Steps are numbered from the first that this node heard; those while the first planner warmed up do not count.
    first = next(message.step for message in graph.time_steps if message.controller == "planner")
    served = [message for message in graph.time_steps if message.step >= first]
    assert all(after.step == before.step + 1 for before, after in pairwise(served))
    assert not [message.step for message in served if message.fallback]
    names = [message.controller for message in served]
    taken_over = names.index("planner_b")
    assert names == ["planner"] * taken_over + ["planner_b"] * (len(names) - taken_over)
    assert max(message.row_age for message in served) <= robot.spec.max_open_loop_steps
    # The planner that is not selected leaves the processor to the other.
    assert graph.latest("planner") <= served[taken_over].step + 3
