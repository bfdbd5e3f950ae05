# SPDX-License-Identifier: Apache-2.0
"""policy_node over real DDS: what it answers, reloads and refuses."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from mbrl_core.config import ConfigurationError
from mbrl_core.messages import StepType, TimeStep
from mbrl_core.policies import POLICIES, Policy, TimeVaryingLinearPolicy, make_policy, save_policy
from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import ControllerState, Plan, RobotSpec
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_policy.nodes.policy_message import policy_to_message
from mbrl_policy.nodes.policy_node import PolicyNode
from mbrl_ros.conversions import plan_from_message, spec_to_message, time_step_to_message
from mbrl_ros.qos import LATCHED, PLAN, STATUS, TIME_STEP_RECORD

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
SPEC = load_robot(ROBOTS / "cartpole.yaml").spec
OTHER_SPEC = load_robot(ROBOTS / "pendulum.yaml").spec
STAMP = Time()
STATE = np.array([0.1, 0.4, -0.2, 0.3])


def drawn(kind: str, seed: int = 0, **configuration: Any) -> Policy:
    policy = make_policy(kind, configuration, SPEC, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in policy.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=generator))
    return policy


class Graph:
    """A policy node and the publishers and subscriptions of everyone around it, spun in one thread."""

    def __init__(self) -> None:
        self.policy_node = PolicyNode()
        self.node = Node("everyone_else")
        self.plans: list[Plan] = []
        self.figures: dict[str, str] = {}
        self.status = ""
        self._spec = self.node.create_publisher(RobotSpec, "robot_spec", LATCHED)
        self._policy = self.node.create_publisher(PolicyMessage, "policy", LATCHED)
        self._state = self.node.create_publisher(ControllerState, "controller_state", LATCHED)
        self._time_step = self.node.create_publisher(TimeStepMessage, "time_step", TIME_STEP_RECORD)
        self.node.create_subscription(Plan, "plan", self.plans.append, PLAN)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, STATUS)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.policy_node)
        self._executor.add_node(self.node)
        self.until(
            lambda: self._time_step.get_subscription_count() == 1 and self.policy_node.count_subscribers("plan") == 1
        )

    def close(self) -> None:
        self._executor.shutdown()
        self.policy_node.destroy_node()
        self.node.destroy_node()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.status = status.message
            self.figures = {item.key: item.value for item in status.values}

    def until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Spins until `condition` holds; fails after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"timed out; status {self.status!r}, figures {self.figures}"
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Spins for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def publish_spec(self, **changes: Any) -> None:
        message = spec_to_message(SPEC, STAMP)
        for name, value in changes.items():
            setattr(message, name, value)
        self._spec.publish(message)

    def publish_policy(self, policy: Policy, version: int, **changes: Any) -> None:
        message = policy_to_message(policy, "test", version, STAMP)
        for name, value in changes.items():
            setattr(message, name, value)
        self._policy.publish(message)

    def select(self, selected: str) -> None:
        self._state.publish(ControllerState(selected=selected, active=selected, chain=[selected, "planner", "safe"]))

    def ready(self, policy: Policy, version: int = 1) -> None:
        """Gives the node all it needs."""
        self.publish_spec()
        self.select("policy")
        self.publish_policy(policy, version)
        self.in_force(version)
        self.until(lambda: self.policy_node._hot)

    def in_force(self, version: int) -> None:
        """Waits until the policy of that version is in force."""
        source = self.policy_node._source
        self.until(lambda: source.policy is not None and source.version == version)

    def step(self, step: int, episode: int = 1, step_type: StepType | None = None) -> None:
        """Publishes a time step of the cart-pole."""
        if step_type is None:
            step_type = StepType.FIRST if step == 0 else StepType.MID
        time_step = TimeStep(episode, step, step_type, STATE, np.full(1, np.nan if step == 0 else 0.5))
        message = time_step_to_message(time_step, SPEC.interface_hash, STAMP)
        message.sample_time_ns = message.publish_time_ns = time.monotonic_ns()
        self._time_step.publish(message)

    def answer(self, step: int, episode: int = 1) -> Plan:
        """Publishes a time step and waits for the plan that answers it."""
        self.step(step, episode)
        self.until(lambda: any((plan.episode, plan.answers_step) == (episode, step) for plan in self.plans))
        return next(plan for plan in self.plans if (plan.episode, plan.answers_step) == (episode, step))

    def refused(self, kind: str) -> int:
        """How often the node has refused an input of that kind."""
        return int(self.policy_node._health.refused[kind])


@pytest.fixture
def make_graph(free_domain: int) -> Iterator[Callable[..., Graph]]:
    """Makes the graph with parameters of the node given as `name:=value` texts."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    graphs: list[Graph] = []

    def make(*parameters: str) -> Graph:
        arguments = [item for parameter in parameters for item in ("-p", parameter)]
        rclpy.init(args=["--ros-args", *arguments], domain_id=free_domain)
        graphs.append(Graph())
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.close()
    rclpy.try_shutdown()


MakeGraph = Callable[..., Graph]


def mode_of(policy: Policy, step: int = 0) -> np.ndarray:
    return policy.mode(torch.from_numpy(STATE).float(), step).detach().numpy()


def test_every_kind_serves_and_is_replaced_while_it_runs(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=lockstep", "plan_rows:=1")
    graph.ready(drawn(POLICIES.names()[0]))
    for version, kind in enumerate(POLICIES.names(), start=2):
        policy = drawn(kind, seed=version)
        graph.publish_policy(policy, version)
        graph.in_force(version)
        message = graph.answer(version)
        plan = plan_from_message(message, SPEC)
        assert (message.start_step, message.controller, message.horizon) == (
            version, "policy", 1 if policy.horizon is None else SPEC.max_open_loop_steps + 1,
        )  # fmt: skip
        action = plan.actions[0]
        if plan.gains is not None and plan.predicted_states is not None:
            action = action + plan.gains[0] @ (STATE - plan.predicted_states[0])
        expected = mode_of(policy, version)
        np.testing.assert_allclose(np.clip(action, *(SPEC.action.lower, SPEC.action.upper)), expected, atol=1e-5)
    graph.until(lambda: graph.figures.get("plans") == str(len(POLICIES.names())))
    assert graph.figures["policy_version"] == str(len(POLICIES.names()) + 1) and graph.status == "serving"
    assert float(graph.figures["inference_p99_s"]) > 0.0


def test_a_bad_policy_is_refused_and_the_old_one_stays(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=lockstep", "plan_rows:=1")
    good = drawn("mlp", seed=1)
    graph.ready(good)
    other = drawn("mlp", seed=2)
    elsewhere = make_policy("mlp", {}, OTHER_SPEC, 0)
    broken = drawn("mlp", seed=3)
    with torch.no_grad():
        broken.layers[0].weight[3, 1] = float("nan")
    for index, (reason, policy, changes) in enumerate(
        [
            ("other_layout", other, {"version_of_layout": 7}),
            ("damaged_policy", other, {"crc32": 1}),
            ("damaged_policy", other, {"weights": bytes(100), "crc32": 0x1F8D1A94}),
            ("invalid_policy", other, {"kind": "forest"}),
            ("invalid_policy", broken, {}),
            ("other_interface", elsewhere, {}),
        ],
        start=1,
    ):
        before = graph.refused(reason)
        graph.publish_policy(policy, 1 + index, **changes)
        graph.until(lambda: graph.refused(reason) == before + 1)  # noqa: B023 - called here
        np.testing.assert_allclose(graph.answer(index).actions, mode_of(good), atol=1e-6)
    graph.publish_policy(other, 20)
    graph.in_force(20)
    np.testing.assert_allclose(graph.answer(20).actions, mode_of(other), atol=1e-6)


def test_in_realtime_it_answers_for_the_step_it_can_reach(make_graph: MakeGraph) -> None:
    graph = make_graph()
    policy = drawn("mlp")
    graph.ready(policy)
    first = graph.answer(0)
    assert first.start_step == 0 and first.horizon >= 2
    later = graph.answer(1)
    plan = plan_from_message(later, SPEC)
    assert later.start_step > 1 and later.horizon == 2
    # The state has stood still, so that the guess is the state itself.
    assert plan.gains is not None and plan.predicted_states is not None
    np.testing.assert_allclose(plan.predicted_states, np.tile(STATE, (3, 1)))
    np.testing.assert_allclose(plan.actions, np.tile(mode_of(policy), (2, 1)), atol=1e-6)


def test_it_idles_until_it_is_selected_and_has_a_policy(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=lockstep")
    graph.select("planner")
    graph.publish_policy(drawn("linear"), 1)
    graph.spin(0.2)
    graph.publish_spec()  # comes last: the policy has waited for it
    graph.in_force(1)
    graph.step(3)
    graph.spin(0.3)
    assert graph.plans == []
    graph.select("policy")
    graph.until(lambda: len(graph.plans) == 1)
    assert graph.plans[0].answers_step == 3
    graph.step(4, step_type=StepType.LAST)
    graph.spin(0.2)
    assert len(graph.plans) == 1


def test_limits_of_a_new_spec_are_taken_up(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=lockstep", "plan_rows:=1")
    graph.ready(drawn("mlp"))
    graph.answer(0)
    graph.publish_spec(action_lower=[-0.01], action_upper=[0.01])
    graph.until(lambda: graph.policy_node._source.spec != SPEC)
    assert abs(graph.answer(1).actions[0]) <= 0.01


def test_a_time_varying_policy_falls_silent_at_its_end(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=lockstep", "always_on:=true")
    random = np.random.default_rng(0)
    policy = TimeVaryingLinearPolicy.from_arrays(
        SPEC, random.normal(size=(3, 1)), random.normal(size=(3, 1, 4)), random.normal(size=(3, 4))
    )
    graph.publish_spec()
    graph.publish_policy(policy, 1)
    graph.in_force(1)
    plan = plan_from_message(graph.answer(1), SPEC)
    assert plan.actions.shape == (2, 1) and plan.gains is not None
    np.testing.assert_allclose(plan.gains, policy.gains.detach().numpy()[1:])
    graph.step(3)
    graph.until(lambda: graph.status.startswith("silent: beyond the 3 steps"))
    assert len(graph.plans) == 1


def test_a_checkpoint_serves_until_a_policy_comes(make_graph: MakeGraph, tmp_path: Path) -> None:
    file = tmp_path / "policy.safetensors"
    kept, published = drawn("mlp", seed=1), drawn("rbf", seed=2)
    save_policy(file, kept)
    graph = make_graph("mode:=lockstep", "plan_rows:=1", "always_on:=true", f"policy_file:={file}")
    graph.publish_spec()
    np.testing.assert_allclose(graph.answer(0).actions, mode_of(kept), atol=1e-6)
    graph.publish_policy(published, 1)
    graph.in_force(1)
    np.testing.assert_allclose(graph.answer(1).actions, mode_of(published), atol=1e-6)


def test_a_checkpoint_of_another_robot_is_refused(make_graph: MakeGraph, tmp_path: Path) -> None:
    file = tmp_path / "policy.safetensors"
    save_policy(file, make_policy("mlp", {}, OTHER_SPEC, 0))
    graph = make_graph("mode:=lockstep", f"policy_file:={file}")
    graph.publish_spec()
    graph.until(lambda: graph.refused("invalid_policy") == 1)


def test_a_checkpoint_that_is_not_there_ends_the_node_at_once(make_graph: MakeGraph) -> None:
    with pytest.raises(FileNotFoundError, match="'policy_file': no file '/nowhere/policy.safetensors'"):
        make_graph("policy_file:=/nowhere/policy.safetensors")


def test_an_unknown_parameter_is_refused(make_graph: MakeGraph) -> None:
    with pytest.raises(ConfigurationError, match="plan_row"):
        make_graph("plan_row:=2")
