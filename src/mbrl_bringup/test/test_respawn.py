# SPDX-License-Identifier: Apache-2.0
"""mbrl.launch.yaml with `respawn:=true`: what every node reports, and how the run goes on when nodes are killed."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from mbrl_bringup.batch import launch_file
from mbrl_bringup.domains import range_of_this_machine, reserved_domain
from mbrl_bringup.launch_runner.runner import LaunchRunner
from mbrl_bringup.run_files import read_run
from mbrl_msgs.msg import ExperimentStatus, TimeStep
from mbrl_ros import qos

TABLE = Path(__file__).resolve().parents[3] / "docs" / "diagnostics.md"
STEPS = 60  # of a trial, 2.4 s
PARAMETERS = {
    # A trial may be lost as often as a busy machine likes; two cores bear a small planner only.
    "experiment": {"episode_steps": STEPS, "refit": "once", "faults_in_a_row": 100},
    "learner": {"dynamics.first_steps": 40, "dynamics.refit_steps": 10},
    "planner": {"planner.horizon": 8, "planner.population_size": 20, "planner.iterations": 2},
}


class Running:
    """The graph of the cart-pole, and what it says."""

    def __init__(self, folder: Path, domain: int) -> None:
        self.run = folder / "run"
        parameters = folder / "parameters.yaml"
        text = {f"/**/{node}": {"ros__parameters": values} for node, values in PARAMETERS.items()}
        parameters.write_text(yaml.safe_dump(text), encoding="utf-8")
        arguments = {
            "faults": "true", "respawn": "true", "trials": "1000", "run_directory": str(self.run),
            "parameters": str(parameters),
        }  # fmt: skip
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": range_of_this_machine(),
            "OMP_NUM_THREADS": "1",
        }
        self.launch = LaunchRunner(launch_file(), arguments, self.run, environment=environment)
        self.figures: dict[str, dict[str, str]] = {}
        self.status = ExperimentStatus()
        self.steps: list[TimeStep] = []
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("test", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)
        self._node.create_subscription(ExperimentStatus, "experiment_status", self._on_status, qos.LATCHED)
        self._node.create_subscription(TimeStep, "time_step", self.steps.append, qos.TIME_STEP_RECORD)
        self.launch.start()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.figures[status.name.strip("/")] = {item.key: item.value for item in status.values}

    def _on_status(self, message: ExperimentStatus) -> None:
        self.status = message

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        """Spins until it holds; fails with the log when it does not."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end and self.launch.poll() is None, f"waited in vain for {what}\n{self.log()}"
            self._executor.spin_once(timeout_sec=0.05)

    def log(self) -> str:
        """What the nodes have written."""
        return (self.run / "launch.log").read_text(encoding="utf-8")

    def kill(self, node: str) -> None:
        """Kills a node; the launch starts it again."""
        pid = next(state.pid for state in self.launch.states() if state.label == node)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def moving(self, steps: int) -> bool:
        """Whether an episode has come this far."""
        return bool(self.steps) and self.steps[-1].step_type == TimeStep.MID and self.steps[-1].step >= steps

    def close(self) -> None:
        """Ends everything."""
        self.launch.stop()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One graph for all tests of this module, which follow one another."""
    with contextlib.ExitStack() as stack:
        made = Running(tmp_path_factory.mktemp("respawn"), stack.enter_context(reserved_domain()))
        stack.callback(made.close)
        yield made


def documented() -> dict[str, set[str]]:
    """Keys by node, as the table of docs/diagnostics.md has them."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    return {node: set(re.findall(r"`([^`]+)`", keys)) for node, keys in rows}


def test_every_node_reports_what_is_documented(running: Running) -> None:
    """The policy is not part of this graph; its figures are looked for in mbrl_policy."""
    wanted = {node: keys for node, keys in documented().items() if node != "policy"}
    assert len(wanted) == 9 == len(running.launch.description.nodes)

    def missing() -> dict[str, set[str]]:
        return {node: lacks for node, keys in wanted.items() if (lacks := keys - set(running.figures.get(node, {})))}

    running.wait(lambda: not missing(), "every key of docs/diagnostics.md")
    assert float(running.figures["mujoco"]["sample_rate"]) > 0.0


def test_a_trial_begins_anew_when_the_backend_was_killed(running: Running) -> None:
    running.wait(lambda: running.status.phase == "running" and running.moving(5), "a trial")
    trial, episode = running.status.trial, running.steps[-1].episode
    running.kill("mujoco")
    running.wait(lambda: running.steps[-1].episode > episode and running.moving(5), "the next episode")
    last = next(step for step in running.steps if step.episode == episode and step.step_type == TimeStep.LAST)
    assert last.end_reason == TimeStep.FAULT
    assert f"trial {trial} ended by FAULT" in running.log()


def test_a_restarted_robot_node_goes_on_with_larger_numbers(running: Running) -> None:
    running.wait(lambda: running.moving(5), "a trial")
    episode = running.steps[-1].episode
    running.kill("robot")
    running.wait(lambda: running.steps[-1].episode != episode and running.moving(5), "another episode")
    assert running.steps[-1].episode > episode
    assert "robot_node has started again" in running.log()


def test_a_restarted_experiment_goes_on_with_its_trials(running: Running) -> None:
    running.wait(lambda: running.status.trial >= 1 and running.moving(5), "the second trial", 120.0)
    finished, version = list(running.status.returns), running.status.trial
    running.kill("experiment")
    running.status = ExperimentStatus()
    running.wait(lambda: running.status.phase == "running", "another experiment")
    assert running.status.trial == version
    assert list(running.status.returns) == finished
    run = read_run(running.run)
    assert [row["trial"] for row in run.metrics] == list(range(len(finished)))
    assert all(row["steps"] <= STEPS and row["end_reason"] == "TIME_LIMIT" for row in run.metrics)
