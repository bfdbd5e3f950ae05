# SPDX-License-Identifier: Apache-2.0
"""learner_node over real DDS."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from problems import ROBOT_FILE, SPEC, normalised_error, sample
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger
from test_learner import episode

from mbrl_core.checkpoint import decode_arrays
from mbrl_core.config import ConfigurationError
from mbrl_dynamics.nodes.learner_node import LearnerNode
from mbrl_dynamics.registry import make_model
from mbrl_msgs.msg import LearnerStatus
from mbrl_msgs.msg import Model as ModelMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_ros.conversions import spec_to_message, time_step_to_message
from mbrl_ros.qos import LATCHED, STATUS, TIME_STEP_RECORD

QUICK = {
    "dynamics.hidden_size": 32,
    "dynamics.first_steps": 150,
    "dynamics.refit_steps": 60,
    "learner.refit_interval": 20,
}


def learner_arguments(**parameters) -> list[str]:
    """Command line of learner_node; `__` in a name stands for a dot."""
    values = {**QUICK, **{name.replace("__", "."): value for name, value in parameters.items()}}
    return ["--ros-args", *(item for name, value in values.items() for item in ("-p", f"{name}:={value}"))]


class Graph:
    """learner_node, in this process or one of its own, and the robot's side of the graph."""

    def __init__(self, process: bool = False, **parameters) -> None:
        self.node = Node("everyone_else")
        self.learner: LearnerNode | None = None
        self.process: subprocess.Popen | None = None
        self.models: list[ModelMessage] = []
        self.statuses: list[LearnerStatus] = []
        self.greetings: list[LearnerStatus] = []
        self.arrivals: list[tuple[str, int]] = []
        self.figures: dict[str, str] = {}
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self._spec = self.node.create_publisher(RobotSpecMessage, "robot_spec", LATCHED)
        self._time_step = self.node.create_publisher(TimeStepMessage, "time_step", TIME_STEP_RECORD)
        self.node.create_subscription(ModelMessage, "model", self._on_model, LATCHED)
        self.node.create_subscription(LearnerStatus, "learner_status", self._on_status, STATUS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, STATUS)
        self.start(process, **parameters)

    def start(self, process: bool = False, **parameters) -> None:
        """Starts learner_node and waits until it hears."""
        arguments = learner_arguments(**parameters)
        if process:
            command = [
                sys.executable,
                "-c",
                "from mbrl_dynamics.nodes.executables import learner_node; learner_node()",
                *arguments,
            ]
            self.process = subprocess.Popen(command, start_new_session=True)
        else:
            self.learner = LearnerNode(cli_args=arguments)
            self.executor.add_node(self.learner)
        publishers = (self._spec, self._time_step)
        self.until(lambda: all(item.get_subscription_count() >= 1 for item in publishers), 60.0)
        self.until(lambda: self.node.count_publishers("learner_status") >= 1, 60.0)

    def _on_model(self, message: ModelMessage) -> None:
        self.models.append(message)
        self.arrivals.append(("model", message.version))

    def _on_status(self, message: LearnerStatus) -> None:
        if message.episode == 0:  # that it is there
            self.greetings.append(message)
            return
        self.statuses.append(message)
        self.arrivals.append(("status", message.model_version))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.figures = {item.key: item.value for item in status.values}

    def until(self, condition, timeout: float = 10.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"timed out; figures {self.figures}"
            if self.process is not None:
                assert self.process.poll() is None, f"learner_node ended with {self.process.returncode}"
            self.executor.spin_once(timeout_sec=0.05)

    def publish_spec(self, **changes) -> None:
        message = spec_to_message(SPEC, Time())
        for name, value in changes.items():
            setattr(message, name, value)
        self._spec.publish(message)

    def publish(self, time_step, **changes) -> None:
        message = time_step_to_message(time_step, SPEC.interface_hash, Time())
        for name, value in changes.items():
            setattr(message, name, value)
        self._time_step.publish(message)

    def run_episode(self, number: int, steps: int, pace: float = 0.0) -> None:
        """Publishes an episode; waits for the status of each step, or `pace` seconds."""
        for time_step in episode(number, steps):
            self.publish(time_step)
            key = (time_step.episode, time_step.step)
            if pace == 0.0:
                self.until(lambda: any((item.episode, item.step) == key for item in self.statuses[-3:]))  # noqa: B023
            else:
                end = time.monotonic() + pace
                while time.monotonic() < end:
                    self.executor.spin_once(timeout_sec=max(0.0, end - time.monotonic()))

    def call(self, service: str) -> Trigger.Response:
        client = self.node.create_client(Trigger, service)
        assert client.wait_for_service(timeout_sec=10.0)
        future = client.call_async(Trigger.Request())
        self.until(future.done)
        return future.result()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ends the process; returns its exit status."""
        assert self.process is not None
        os.killpg(self.process.pid, number)
        return self.process.wait(timeout=5.0)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.learner is not None:
            self.executor.remove_node(self.learner)
            self.learner.destroy_node()
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def graph():
    made: list[Graph] = []

    def make(process: bool = False, **parameters) -> Graph:
        made.append(Graph(process, **parameters))
        return made[-1]

    rclpy.init()
    yield make
    for item in made:
        item.close()
    rclpy.try_shutdown()


def restored(message: ModelMessage):
    """The model of a message."""
    weights = bytes(message.weights)
    assert zlib.crc32(weights) == message.crc32
    model = make_model(message.kind, json.loads(message.configuration), SPEC, 0)
    model.load_arrays(decode_arrays(weights, "model"))
    return model


def test_lockstep_learns_publishes_and_answers_every_step(graph, tmp_path):
    learner = graph(mode="lockstep", run_directory=tmp_path, seed=3)
    learner.publish_spec()
    learner.run_episode(1, 60)
    learner.run_episode(2, 25)
    assert [(item.episode, item.step) for item in learner.statuses] == [(1, step) for step in range(61)] + [
        (2, step) for step in range(26)
    ]
    assert learner.statuses[59].model_version == 0 and learner.statuses[60].model_version == 1
    assert learner.statuses[60].trained_through_episode == 1 and learner.statuses[-1].transitions == 85
    # A status never names a model that has not been published before it.
    learner.until(lambda: learner.models[-1].version == learner.statuses[-1].model_version)
    for version in {item.version for item in learner.models}:
        assert learner.arrivals.index(("model", version)) < learner.arrivals.index(("status", version))
    assert np.all(normalised_error(restored(learner.models[-1]), sample(200, 3)) < 1.0)


def test_lockstep_twice_gives_the_same_model(graph):
    weights = []
    for _ in range(2):
        learner = graph(mode="lockstep", seed=3)
        learner.publish_spec()
        learner.run_episode(1, 40)
        learner.until(lambda: len(learner.models) == 1)  # noqa: B023
        weights.append(bytes(learner.models[0].weights))
        learner.close()
    assert weights[0] == weights[1]


def test_realtime_trains_in_the_background_and_late_subscribers_get_the_model(graph):
    learner = graph(process=True, mode="realtime", dynamics__first_steps=1500)
    learner.publish_spec()
    learner.run_episode(1, 40, pace=0.01)
    # The first fit takes a second or so; statuses flow meanwhile.
    waits = []
    for time_step in episode(2, 40):
        begin = time.monotonic()
        learner.publish(time_step)
        learner.until(lambda: (learner.statuses[-1].episode, learner.statuses[-1].step) == (2, time_step.step))  # noqa: B023
        waits.append(time.monotonic() - begin)
    assert any(item.training for item in learner.statuses)
    assert np.median(waits) < 0.1
    learner.until(lambda: len(learner.models) > 0, 60.0)
    late: list[ModelMessage] = []
    learner.node.create_subscription(ModelMessage, "model", late.append, LATCHED)
    learner.until(lambda: len(late) == 1)
    restored(late[0])
    # An interrupt in the middle of a fit ends it.
    learner.run_episode(3, 60, pace=0.001)
    assert learner.end(signal.SIGINT) == 0


def test_restarted_learner_goes_on_from_its_checkpoint(graph, tmp_path):
    learner = graph(process=True, mode="lockstep", run_directory=tmp_path)
    learner.publish_spec()
    learner.run_episode(1, 40)
    learner.until(lambda: len(learner.models) == 1)
    response = learner.call("save_model")
    assert response.success and Path(response.message).parent == tmp_path / "checkpoints"
    learner.end(signal.SIGKILL)
    learner.models.clear()
    learner.process = None
    learner.start(mode="lockstep", run_directory=tmp_path)
    learner.until(lambda: len(learner.models) == 1)
    assert learner.models[0].version == 1
    learner.run_episode(2, 25)
    assert learner.statuses[-1].transitions == 65


def test_bad_time_steps_are_refused_and_counted(graph):
    learner = graph(mode="lockstep")
    learner.publish_spec()
    good = list(episode(1, 5))
    learner.publish(good[0])
    learner.publish(good[1], interface_hash="0" * 64)
    learner.publish(good[1], state=[1.0, 2.0])
    learner.publish(good[1], state=[1.0, 2.0, float("nan"), 0.0])
    learner.publish(good[1], version=99)
    learner.publish(good[1])
    learner.until(lambda: len(learner.statuses) == 2)
    assert learner.statuses[-1].refused == 4 and learner.statuses[-1].transitions == 1
    expected = {f"refused/{kind}": "1" for kind in ("other_interface", "wrong_shape", "non_finite", "other_layout")}
    learner.until(lambda: expected.items() <= learner.figures.items())


def test_whoever_comes_late_has_the_newest_status(graph):
    learner = graph(mode="lockstep")
    learner.publish_spec()
    learner.until(lambda: learner.greetings)
    assert learner.greetings[0].model_version == 0 and not learner.statuses
    for time_step in list(episode(1, 5))[:3]:
        learner.publish(time_step)
    learner.until(lambda: len(learner.statuses) == 3)
    late: list[LearnerStatus] = []
    learner.node.create_subscription(LearnerStatus, "learner_status", late.append, LATCHED)
    learner.until(lambda: late and late[-1].step == 2)


def test_without_a_run_directory_nothing_can_be_saved(graph):
    learner = graph(mode="lockstep")
    assert "'run_directory' is empty" in learner.call("save_model").message


def test_what_cannot_be_saved_says_why(graph, tmp_path):
    learner = graph(mode="lockstep", run_directory=tmp_path)
    learner.publish_spec()
    assert learner.call("save_model").message == "there is no model yet"
    (tmp_path / "checkpoints").write_text("in the way")
    learner.run_episode(1, 25)
    learner.until(lambda: learner.figures.get("refused/checkpoint") == "1")
    response = learner.call("save_model")
    assert not response.success and "not written" in response.message


@pytest.mark.parametrize("robot_file", ["", "/nowhere/cartpole.yaml", str(ROBOT_FILE)])
def test_known_dynamics_of_no_or_another_robot_are_refused(graph, robot_file):
    parameters = {"robot_file": robot_file} if robot_file else {}
    learner = graph(mode="lockstep", dynamics__kind="mujoco", **parameters)
    learner.publish_spec()
    learner.until(lambda: learner.figures.get("refused/dynamics") == "1")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"dynamics__kind": "oracle"}, "unknown dynamics 'oracle', expected one of: ensemble, linear"),
        ({"dynamics__members": 0}, "'dynamics.members': got 0, expected at least 1"),
        ({"learner__refit": 3}, "unknown parameter 'learner.refit'"),
        ({"mode": "warp"}, "'mode': got 'warp', expected one of realtime, lockstep"),
    ],
)
def test_bad_parameters_are_named(parameters, expected):
    rclpy.init()
    try:
        with pytest.raises(ConfigurationError, match=expected):
            LearnerNode(cli_args=learner_arguments(**parameters))
    finally:
        rclpy.try_shutdown()


def test_a_bad_parameter_ends_the_process_with_one_line():
    command = [
        sys.executable,
        "-c",
        "from mbrl_dynamics.nodes.executables import learner_node; learner_node()",
        *learner_arguments(seed=-1),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert "'seed': got -1, expected at least 0" in result.stderr and "Traceback" not in result.stderr
