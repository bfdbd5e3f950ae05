# SPDX-License-Identifier: Apache-2.0
"""How much the graph adds to the time between a state and its command.

robot_node, mujoco_node and planner_node run as they are, in lockstep held to real time: the command of step k goes out
as soon as the plan that answers time step k has come, so that nothing but the path itself is measured. In realtime mode
commands go out at ticks, and the figure would be that of the tick.

    graph       publication of TimeStep k -> command of step k, less the solve time that the plan names
    round trip  publication of a TimeStep -> reception of a Plan from a process that answers at once

The round trip carries copies of the very messages of the run. It happens in the quiet part of each control period, so
both run at the same pace, in turn, on the same load, and both wake processes that sleep. A further process
keeps the graph's own messages, and reads the time stamps that they carry when all is over.
"""

import argparse
import contextlib
import csv
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from common import bar, report
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.timer import Timer

from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import Plan, TimeStep
from mbrl_ros import qos
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns, steady_timer

ROOT = Path(__file__).resolve().parents[1]
ROBOT_FILE = ROOT / "config" / "robots" / "cartpole.yaml"
WARM_UP = 25
PING_TIME_STEP, PING_PLAN = "latency/time_step", "latency/plan"
# The round trip begins at this fraction of the period after the publication of a time step.
PHASE = 0.7
NICENESS_OF_LISTENER = 10
# Seconds that the listener takes to read what has come.
DRAIN = 3.0
PLANNER = {"population_size": 20, "iterations": 1}


class Echo(Node):
    """The far end of the round trip: answers every time step by a plan of the run, at once."""

    def __init__(self) -> None:
        super().__init__("latency_echo")
        self.plan: Plan | None = None
        self.publisher = self.create_publisher(Plan, PING_PLAN, qos.PLAN)
        self.create_subscription(TimeStep, PING_TIME_STEP, self.answer, qos.TIME_STEP_CONTROL)
        self.plans = self.create_subscription(Plan, "plan", self.keep, qos.PLAN)

    def keep(self, message: Plan) -> None:
        """Keeps the first plan and listens no longer: the graph must not wake this process."""
        if self.plan is None:
            self.plan = message
            self.destroy_subscription(self.plans)

    def answer(self, message: TimeStep) -> None:
        """Sends the plan."""
        if self.plan is not None:
            self.plan.answers_step = message.step
            self.publisher.publish(self.plan)


class Ping(Node):
    """The near end of the round trip: writes rows of steady time (ns) and duration (ms) to the CSV file `path`."""

    def __init__(self, path: str, period: float) -> None:
        super().__init__("latency_ping")
        self.path, self.period = path, period
        self.rows: list[dict[str, Any]] = []
        self.time_step: TimeStep | None = None
        self.sent_ns = 0
        self.publisher = self.create_publisher(TimeStep, PING_TIME_STEP, qos.TIME_STEP_CONTROL)
        self.create_subscription(Plan, PING_PLAN, self.take_answer, qos.PLAN)
        self.time_steps = self.create_subscription(TimeStep, "time_step", self.keep, qos.TIME_STEP_RECORD)
        self.timer: Timer | None = None

    def keep(self, message: TimeStep) -> None:
        """Keeps one time step as payload, takes the phase from it, and listens no longer."""
        if self.time_step is None and message.step == WARM_UP:
            self.time_step = message
            self.destroy_subscription(self.time_steps)
            begin_ns = message.publish_time_ns + round((1.0 + PHASE) * self.period * 1e9)
            self.timer = steady_timer(self, max(begin_ns - now_ns(), 0) * 1e-9, self.begin)

    def begin(self) -> None:
        """The right phase has come."""
        self.destroy_timer(self.timer)
        self.timer = steady_timer(self, self.period, self.send)

    def send(self) -> None:
        """Begins a round trip; the step tells the answers apart."""
        assert self.time_step is not None
        self.time_step.step += 1
        self.sent_ns = now_ns()
        self.publisher.publish(self.time_step)

    def take_answer(self, message: Plan) -> None:
        """Ends a round trip."""
        arrived_ns = now_ns()
        assert self.time_step is not None
        if message.answers_step == self.time_step.step:
            self.rows.append({"time_ns": self.sent_ns, "round_trip_ms": (arrived_ns - self.sent_ns) * 1e-6})

    def destroy_node(self) -> None:
        """Writes what was measured."""
        write(self.path, self.rows)
        super().destroy_node()


class Listener:
    """Takes the graph's own time stamps from its messages: one row a step to the CSV file `path`.

    It sleeps until the end and reads then what the middleware has kept: Python never wakes up beside the graph.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.solve_times: dict[int, float] = {}
        self.time_steps: list[TimeStep] = []

    def run(self, messages: int) -> int:
        """Listens until SIGINT, for at most so many messages of each topic."""
        # Before the middleware starts its threads, which inherit it.
        os.nice(NICENESS_OF_LISTENER)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        node = rclpy.create_node("latency_listener")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.create_subscription(Plan, "plan", self.take_plan, QoSProfile(depth=messages))
        node.create_subscription(TimeStep, "time_step", self.time_steps.append, QoSProfile(depth=messages))
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        end = time.monotonic() + DRAIN
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        write(self.path, self.table())
        node.destroy_node()
        rclpy.try_shutdown()
        return 0

    def take_plan(self, message: Plan) -> None:
        """Notes how long a plan took to find."""
        self.solve_times[message.answers_step] = message.solve_time

    def table(self) -> list[dict[str, Any]]:
        """One row a step: a time step names the command that answered the one before it."""
        rows = []
        for before, message in itertools.pairwise(self.time_steps):
            if message.step != before.step + 1 or before.step not in self.solve_times:
                continue
            solve_time = self.solve_times[before.step]
            latency = (message.command_time_ns - before.publish_time_ns) * 1e-9
            rows.append(
                {
                    "step": before.step,
                    "time_ns": before.publish_time_ns,
                    "graph_ms": 1e3 * (latency - solve_time),
                    "solve_ms": 1e3 * solve_time,
                }
            )
        return rows


def write(path: str, rows: list[dict[str, Any]]) -> None:
    """Writes rows of one shape to a CSV file."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["time_ns"])
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[dict[str, float]]:
    """Reads what `write` wrote."""
    with open(path, newline="", encoding="utf-8") as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def coordinate(steps: int, seed: int, folder: Path) -> list[dict[str, float]]:
    """Starts all processes, runs one episode of `steps` steps, and returns what was measured of each step."""
    planner_file = ROOT / "config" / "planner" / "icem.yaml"
    lockstep = ["-p", "mode:=lockstep"]
    robot = ["-p", f"robot_file:={ROBOT_FILE}", *lockstep]
    planner = ["--params-file", str(planner_file), *lockstep, "-p", f"seed:={seed}"]
    for name, value in PLANNER.items():
        planner += ["-p", f"planner.{name}:={value}"]
    nodes = {
        "mujoco": [executable("mbrl_robot", "mujoco_node"), "--ros-args", *robot],
        "robot": [executable("mbrl_robot", "robot_node"), "--ros-args", *robot, "-p", "lockstep_pace:=1.0"],
        "planner": [executable("mbrl_planner", "planner_node"), "--ros-args", *planner],
        **{
            role: [
                sys.executable,
                __file__,
                "--role",
                role,
                "--table",
                str(folder / f"{role}.csv"),
                "--steps",
                str(steps + WARM_UP),
            ]
            for role in ("echo", "ping", "listener")
        },
    }
    processes = {}
    try:
        for name, arguments in nodes.items():
            with open(folder / f"{name}.log", "wb") as log:
                processes[name] = subprocess.Popen(
                    arguments, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        run_episode(steps, seed, processes)
    except TimeoutError:
        for name in nodes:
            print(f"--- {name}\n{(folder / f'{name}.log').read_text()}", file=sys.stderr)
        raise
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        for process in processes.values():
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return merge(read(folder / "listener.csv"), read(folder / "ping.csv"))


def merge(graph: list[dict[str, float]], round_trips: list[dict[str, float]]) -> list[dict[str, float]]:
    """Puts to each step the round trip that followed it within its control period."""
    times = np.array([row["time_ns"] for row in graph])
    rows = []
    for trip in round_trips:
        index = int(np.searchsorted(times, trip["time_ns"])) - 1
        if index >= 0:
            row = graph[index]
            rows.append({**{key: row[key] for key in ("step", "graph_ms", "solve_ms")},
                         "round_trip_ms": trip["round_trip_ms"]})  # fmt: skip
    return rows


def executable(package: str, name: str) -> str:
    """Path of an installed node."""
    from ament_index_python.packages import get_package_prefix

    return str(Path(get_package_prefix(package)) / "lib" / package / name)


def run_episode(steps: int, seed: int, processes: dict[str, "subprocess.Popen[bytes]"]) -> None:
    """Publishes a model and a task, starts an episode, and returns after its end.

    Raises TimeoutError when something does not come about, or a process ends.
    """
    import rclpy
    from rclpy.action import ActionClient

    from mbrl_core.config import load_preset
    from mbrl_core.tasks import task_of_preset
    from mbrl_msgs.action import StartEpisode
    from mbrl_msgs.msg import ControllerState, Model, Task
    from mbrl_ros.conversions import task_to_message

    robot = load_robot(ROBOT_FILE)
    model = learned_model(load_preset(ROOT / "config" / "dynamics" / "ensemble.yaml", "dynamics"), seed)
    rclpy.init(args=[])
    node = rclpy.create_node("latency_coordinator")

    def wait(condition: Any, seconds: float, what: str) -> None:
        end = node.get_clock().now().nanoseconds + seconds * 1e9
        while not condition():
            ended = [name for name, process in processes.items() if process.poll() is not None]
            if ended:
                raise TimeoutError(f"{ended[0]} ended while waiting for {what}")
            if node.get_clock().now().nanoseconds > end:
                raise TimeoutError(f"waited {seconds:g} s for {what}")
            rclpy.spin_once(node, timeout_sec=0.1)

    try:
        stamp = node.get_clock().now().to_msg()
        tasks = node.create_publisher(Task, "task", qos.LATCHED)
        task = task_of_preset(load_preset(ROOT / "config" / "tasks" / f"{robot.task}.yaml", "task"))
        tasks.publish(task_to_message(task, robot.spec.interface_hash, stamp))
        models = node.create_publisher(Model, "model", qos.LATCHED)
        models.publish(model)
        states: list[ControllerState] = []
        node.create_subscription(ControllerState, "controller_state", states.append, qos.LATCHED)
        wait(lambda: models.get_subscription_count() and tasks.get_subscription_count(), 60.0, "planner_node")
        listeners = {"latency_ping", "latency_echo", "latency_listener"}
        wait(lambda: listeners <= set(node.get_node_names()), 30.0, "the round trip's processes")
        starts = ActionClient(node, StartEpisode, "start_episode")
        wait(starts.server_is_ready, 30.0, "robot_node")
        goal = StartEpisode.Goal(max_steps=steps, seed=seed, controller="planner", required_controllers=["planner"])
        sent = starts.send_goal_async(goal)
        wait(sent.done, 10.0, "start_episode")
        result = sent.result().get_result_async()
        wait(result.done, 40.0, "the first time step")
        if not result.result().result.success:
            raise TimeoutError(result.result().result.message)
        finished = "no episode is running"
        wait(lambda: states[-1].active == "planner", 30.0, "the planner to serve")
        wait(lambda: states[-1].reason == finished, steps * robot.spec.period * 4 + 30.0, "the end of the episode")
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def learned_model(dynamics: dict[str, Any], seed: int) -> Any:
    """Model message of the preset `dynamics`, learned from 100 random steps: its predictions stay finite."""
    import torch
    from builtin_interfaces.msg import Time

    from mbrl_core.messages import StepType, TimeStep
    from mbrl_dynamics.learner import LearnerConfig, OnlineLearner
    from mbrl_dynamics.nodes.model_message import learner_to_message
    from mbrl_dynamics.registry import make_model
    from mbrl_robot.simulation import MujocoSimulation

    torch.set_num_threads(1)
    robot = load_robot(ROBOT_FILE)
    random = np.random.default_rng(seed)
    kind = dynamics["kind"]
    learner = OnlineLearner(make_model(kind, dynamics, robot.spec, seed), LearnerConfig(), seed)
    simulation = MujocoSimulation(robot)
    state = simulation.reset(random)
    nothing = np.full(robot.spec.action.size, np.nan)
    learner.add(TimeStep(1, 0, StepType.FIRST, state, nothing, action_valid=False))
    for step in range(1, 101):
        action = random.uniform(robot.spec.action.lower, robot.spec.action.upper)
        learner.add(TimeStep(1, step, StepType.MID, simulation.step(action), action))
    learner.fit()
    return learner_to_message(learner, "latency", Time())


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="control steps measured, 40 ms each (default 1000)")
    parser.add_argument("--seeds", type=int, default=1, help="number of runs, with a seed each (default 1)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first run (default 0)")
    parser.add_argument("--role", choices=("echo", "ping", "listener"), help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        period = load_robot(ROBOT_FILE).spec.period
        if options.role == "listener":
            return Listener(options.table).run(options.steps)
        factory = Echo if options.role == "echo" else partial(Ping, options.table, period)
        return run(factory, arguments=[])
    # A graph of its own: nothing else that runs on the machine may be heard.
    os.environ.setdefault("ROS_DOMAIN_ID", "39")
    rows: list[dict[str, Any]] = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        with tempfile.TemporaryDirectory(prefix="mbrl_latency_") as folder:
            measured = coordinate(options.steps + WARM_UP, seed, Path(folder))
        rows += [{"seed": seed, **row} for row in measured if row["step"] > WARM_UP]
    graph = np.array([row["graph_ms"] for row in rows])
    round_trip = np.array([row["round_trip_ms"] for row in rows])
    bars = [bar("steps_measured", len(rows), at_least=0.9 * options.steps * options.seeds)]
    for percent in (50, 99):
        values = [float(np.percentile(item, percent)) if rows else float("nan") for item in (graph, round_trip)]
        print(f"p{percent}: graph {values[0]:.3f} ms, round trip {values[1]:.3f} ms")
        bars.append(bar(f"p{percent}_graph_over_round_trip", values[0] / values[1], at_most=2.0))
    solve = [row["solve_ms"] for row in rows]
    print(f"solve time: median {np.median(solve) if solve else float('nan'):.1f} ms, not counted")
    return report("latency", bars, rows)


if __name__ == "__main__":
    sys.exit(main())
