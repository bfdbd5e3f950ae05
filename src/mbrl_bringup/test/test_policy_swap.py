# SPDX-License-Identifier: Apache-2.0
"""A planner hands over to a policy, and the policy is replaced, while the robot moves: real processes in real time."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from rclpy.action import ActionClient
from test_swap import Graph, graph, model_message, planner, start_robot  # noqa: F401 - graph is a fixture

from mbrl_core.policies import Policy, make_policy, save_policy
from mbrl_core.robot_file import Robot
from mbrl_core.tasks import make_task
from mbrl_msgs.action import StartEpisode
from mbrl_msgs.msg import Model, Task
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_msgs.srv import SelectController
from mbrl_policy.nodes.policy_message import policy_to_message
from mbrl_ros import qos
from mbrl_ros.conversions import task_to_message

STEPS = 8  # of each controller at least


def constant(robot: Robot, action: float) -> Policy:
    """A policy whose action is hardly anything but one number."""
    policy = make_policy("linear", {}, robot.spec, 0)
    with torch.no_grad():
        policy.layer.bias.fill_(action)
        policy.layer.weight.fill_(1e-3)
    return policy


def test_a_policy_takes_over_from_a_planner_and_is_replaced_without_a_lost_step(
    graph: Graph,  # noqa: F811
    tmp_path: Path,
) -> None:
    robot = start_robot(graph, tmp_path)
    planner(graph, "planner", "icem")
    file = tmp_path / "policy.safetensors"
    save_policy(file, constant(robot, 0.3))
    graph.start(
        "policy", "mbrl_policy", "policy_node", "-p", f"policy_file:={file}", "-p", "always_on:=true",
    )  # fmt: skip
    latched: dict[str, Any] = {
        name: graph.node.create_publisher(kind, name, qos.LATCHED)
        for name, kind in (("task", Task), ("model", Model), ("policy", PolicyMessage))
    }
    latched["task"].publish(task_to_message(make_task("pendulum_upright"), robot.spec.interface_hash, Time()))
    latched["model"].publish(model_message(robot))
    starts = ActionClient(graph.node, StartEpisode, "start_episode")
    select = graph.node.create_client(SelectController, "select_controller")
    graph.wait(lambda: starts.server_is_ready() and latched["policy"].get_subscription_count() == 1, "the nodes")
    goal = StartEpisode.Goal(max_steps=10_000, controller="planner", required_controllers=["planner", "policy"])
    sent = starts.send_goal_async(goal)
    graph.wait(sent.done, "an answer of robot_node")

    def serving(controller: str, action: float | None = None) -> int:
        """How many of the newest time steps in turn have that controller, and that action."""
        count = 0
        for message in reversed(graph.time_steps):
            if message.controller != controller or (action is not None and abs(message.action[0] - action) > 0.05):
                break
            count += 1
        return count

    graph.wait(lambda: serving("planner") >= STEPS and graph.latest("policy") >= 0, "the planner, the policy ready")
    chosen = select.call_async(SelectController.Request(controller="policy"))
    graph.wait(lambda: chosen.done() and serving("policy", 0.3) >= STEPS, "the policy")
    latched["policy"].publish(policy_to_message(constant(robot, -0.4), "test", 1, Time()))
    graph.wait(lambda: serving("policy", -0.4) >= STEPS, "the new policy")
    bad = policy_to_message(constant(robot, 0.9), "test", 2, Time())
    bad.crc32 ^= 1
    latched["policy"].publish(bad)
    before = len(graph.time_steps)
    graph.wait(lambda: len(graph.time_steps) >= before + STEPS, "steps after a damaged policy")
    assert serving("policy", -0.4) >= 2 * STEPS
    log = (tmp_path / "policy.log").read_text()
    assert "refused: policy: version 2 from 'test'" in log and "checksum" in log
    back = select.call_async(SelectController.Request(controller="planner"))
    graph.wait(lambda: back.done() and serving("planner") >= STEPS, "the planner again")

    first = next(message.step for message in graph.time_steps if message.controller == "planner")
    served = [message for message in graph.time_steps if message.step >= first]
    assert all(after.step == before.step + 1 for before, after in pairwise(served))
    assert not [message.step for message in served if message.fallback]
    assert max(message.row_age for message in served) <= robot.spec.max_open_loop_steps
    assert np.isfinite([message.state for message in served]).all()


def pumping(robot: Robot) -> Policy:
    """Pushes the way the pendulum moves, so that it leaves the states that the policy was normalised by: slow ones."""
    random = np.random.default_rng(0)
    policy = make_policy("linear", {}, robot.spec, 0)
    policy.normalise(torch.from_numpy(random.normal(0.0, (0.5, 1.0), (2000, 2))).float())
    slow, fast = (torch.tensor([[0.0, speed]]) for speed in (0.0, 1.0))
    with torch.no_grad():
        policy.layer.bias.fill_(0.0)
        policy.layer.weight.fill_(0.0)
        moved = policy.observe(fast) - policy.observe(slow)
        policy.layer.weight[0] = 3.0 * moved[0] / moved.square().sum()
    return policy


def test_the_planner_takes_over_where_the_policy_leaves_the_states_it_knows(
    graph: Graph,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The policy is selected all the time; it falls silent, and the next of the chain serves without a lost step."""
    robot = start_robot(graph, tmp_path)
    planner(graph, "planner", "icem", "always_on:=true")
    file = tmp_path / "policy.safetensors"
    save_policy(file, pumping(robot))
    agreement = {"planner": "planner", "window": 2, "take_over": 1.0, "hand_back": 1.0, "largest_distance": 3.0}
    words = [word for name, value in agreement.items() for word in ("-p", f"agreement.{name}:={value}")]
    graph.start("policy", "mbrl_policy", "policy_node", "-p", f"policy_file:={file}", *words)
    tasks = graph.node.create_publisher(Task, "task", qos.LATCHED)
    models = graph.node.create_publisher(Model, "model", qos.LATCHED)
    tasks.publish(task_to_message(make_task("pendulum_upright"), robot.spec.interface_hash, Time()))
    models.publish(model_message(robot, strength=0.0))  # a planner that sees no use in pushing
    starts = ActionClient(graph.node, StartEpisode, "start_episode")
    select = graph.node.create_client(SelectController, "select_controller")
    graph.wait(starts.server_is_ready, "robot_node")
    goal = StartEpisode.Goal(max_steps=10_000, controller="planner", required_controllers=["planner", "policy"])
    sent = starts.send_goal_async(goal)
    graph.wait(sent.done, "an answer of robot_node")
    # At once, before anybody has made the pendulum fast.
    graph.wait(lambda: any(message.controller == "planner" for message in graph.time_steps), "the planner")
    chosen = select.call_async(SelectController.Request(controller="policy"))

    def handed_over() -> list[int]:
        """Steps at which the planner began to serve because the policy had become fast: further than it knows."""
        return [
            after.step
            for before, after in pairwise(graph.time_steps)
            if (before.controller, after.controller) == ("policy", "planner") and abs(before.state[1]) > 2.5
        ]

    graph.wait(chosen.done, "an answer to select_controller")
    graph.wait(lambda: [step for step in handed_over() if graph.time_steps[-1].step >= step + 2], "the planner again")
    first = next(message.step for message in graph.time_steps if message.controller == "planner")
    served = [message for message in graph.time_steps if message.step >= first]
    assert all(after.step == before.step + 1 for before, after in pairwise(served))
    assert {message.controller for message in served} == {"planner", "policy"}
    assert "standard deviations from its training" in (tmp_path / "policy.log").read_text()


def test_the_policy_launch_file_names_the_node_after_its_controller() -> None:
    from mbrl_bringup.launch_runner.expand import expand

    file = Path(__file__).resolve().parents[3] / "launch" / "policy.launch.yaml"
    (node,) = expand(file, {"controller": "planner_b"}, Path("/tmp")).nodes
    assert node.name == "planner_b" and {"/planner_b": {"controller": "planner_b"}} in node.parameters
    with pytest.raises(Exception, match="always_on"):
        expand(file, {"always_on": "perhaps"}, Path("/tmp"))
