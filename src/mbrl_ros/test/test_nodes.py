# SPDX-License-Identifier: Apache-2.0
"""Parameters, diagnostics, lifecycle and the main function, on real nodes."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_core.config import ConfigurationError, parameter
from mbrl_ros import parameters
from mbrl_ros.health import Health
from mbrl_ros.lifecycle import ManagedNode


@dataclass(frozen=True)
class Example:
    """A configuration with each type of parameter."""

    seed: int = parameter(0, "Seed of the random streams.", minimum=0, read_only=True)
    rate: float = parameter(1.0, "Rate (Hz).", minimum=0.1, maximum=5.0)
    kind: str = parameter("slow", "Kind.", choices=("slow", "fast"))
    gains: tuple[float, ...] = parameter((), "Gains.")


def node_with(**overrides: object) -> Node:
    return rclpy.create_node(
        "example",
        parameter_overrides=[Parameter(name.replace("__", "."), value=value) for name, value in overrides.items()],
    )


def spin_until(nodes: list[Node], condition, seconds: float = 10.0) -> None:
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    assert condition()


def test_overrides_reach_the_configuration_and_descriptors_say_what_is_allowed(ros: None) -> None:
    node = node_with(planner__rate=2, planner__gains=[1.0, 2.0])
    assert parameters.declare(node, Example, "planner") == Example(rate=2.0, gains=(1.0, 2.0))
    parameters.finish(node)
    descriptor = node.describe_parameter("planner.rate")
    assert descriptor.description == "Rate (Hz)."
    assert (descriptor.floating_point_range[0].from_value, descriptor.floating_point_range[0].to_value) == (0.1, 5.0)
    assert descriptor.read_only


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("rate", 9.0, "'rate': got 9.0, expected at most 5.0"), ("kind", "warp", "'kind'.*one of slow, fast"),
     ("seed", "x", "'seed'.*int")],
)  # fmt: skip
def test_a_bad_override_is_refused(ros: None, name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parameters.declare(node_with(**{name: value}), Example)


def test_an_unknown_override_is_refused(ros: None) -> None:
    node = node_with(raet=2.0)
    parameters.declare(node, Example)
    with pytest.raises(ConfigurationError, match="unknown parameter 'raet' of node 'example'; known: .*rate"):
        parameters.finish(node)
    parameters.finish(node, passed_over={"raet"})


def test_changes_are_checked_and_reach_the_node_whole(ros: None) -> None:
    node = node_with()
    seen: list[Example] = []
    parameters.declare(node, Example, on_change=seen.append)
    assert not node.set_parameters([Parameter("rate", value=50.0)])[0].successful
    assert not node.set_parameters([Parameter("kind", value="warp")])[0].successful
    assert not node.set_parameters([Parameter("seed", value=3)])[0].successful
    assert seen == []
    assert node.set_parameters_atomically([Parameter("rate", value=3.0), Parameter("kind", value="fast")]).successful
    assert seen == [Example(rate=3.0, kind="fast")]


def test_refusals_are_counted_by_kind_in_diagnostics(ros: None) -> None:
    node, listener = node_with(), rclpy.create_node("listener")
    seen: list[DiagnosticArray] = []
    listener.create_subscription(DiagnosticArray, "/diagnostics", seen.append, 10)
    health = Health(node, period=0.1)
    for _ in range(3):
        health.refuse("non_finite", "joint_states: position of 'hinge' is nan, expected a finite number")
    health.set("model_age", 1.5)

    def counted() -> bool:
        values = {item.key: item.value for item in seen[-1].status[0].values} if seen else {}
        return values == {"refused/non_finite": "3", "model_age": "1.5"}

    spin_until([node, listener], counted)
    assert seen[-1].status[0].name == "/example"


def test_a_managed_node_starts_itself_unless_told_not_to(ros: None) -> None:
    class Managed(ManagedNode):
        def __init__(self, name: str, **options: object) -> None:
            super().__init__(name, **options)
            self.states: list[str] = []

        def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
            self.states.append("configured")
            return TransitionCallbackReturn.SUCCESS

        def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
            self.states.append("active")
            return super().on_activate(state)

    starting = Managed("starting")
    waiting = Managed("waiting", parameter_overrides=[Parameter("autostart", value=False)])
    spin_until([starting, waiting], lambda: starting.states == ["configured", "active"])
    assert waiting.states == []


MAIN = """
import sys
from mbrl_core.config import ConfigurationError
from mbrl_ros.process import run
from rclpy.node import Node
class Example(Node):
    def __init__(self):
        super().__init__("example")
        {body}
    def destroy_node(self):
        print("closed", flush=True)
        super().destroy_node()
sys.exit(run(Example))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_node_cleanly(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN.format(body="self.create_timer(0.1, lambda: print('up', flush=True))")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.send_signal(number)
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert "closed" in output and errors == ""


def test_bad_configuration_is_one_line_and_status_two() -> None:
    code = MAIN.format(body="raise ConfigurationError(\"parameter 'x': got 1, expected 2\")")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.strip().endswith("parameter 'x': got 1, expected 2") and result.stderr.count("\n") == 1
