# SPDX-License-Identifier: Apache-2.0
"""A robot with a delay of its own as nodes: what lockstep tells of it is exact, and in realtime nothing acts early."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml
from robot_graph import ROBOTS, Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import RobotSpec, TimeStep
from mbrl_robot.delayed_simulation import DelayedSimulation
from mbrl_robot.simulation import MujocoSimulation
from mbrl_ros import qos
from mbrl_ros.conversions import spec_from_message, time_step_from_message

PERIOD = 0.04


def late_robot(folder: Path, delay: float, stated: bool = True) -> Path:
    """A robot file of a cart-pole that is late."""
    content = yaml.safe_load((ROBOTS / "cartpole.yaml").read_text())
    content["simulation"]["command_delay"] = delay
    if stated:
        content["control"]["delay"] = delay
    path = folder / "late.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_lockstep_tells_what_acted_and_what_will(graph: Graph, tmp_path: Path) -> None:
    path = late_robot(tmp_path, 1.5 * PERIOD)
    specs: list[RobotSpec] = []
    graph.node.create_subscription(RobotSpec, "robot_spec", specs.append, qos.LATCHED)
    for name in ("mujoco", "robot"):
        graph.start(name, mode="lockstep", robot_file=path)
    plans = {}

    def answer(time_step: TimeStep) -> object:
        plans[time_step.step] = plan = graph.make_plan(time_step)
        return plan

    graph.answer = answer
    result = graph.start_episode(max_steps=20, seed=5, controller="planner")
    assert result.success, result.message
    spec = spec_from_message(specs[-1])
    assert spec.delay == 1.5 * PERIOD and spec.interface_hash == graph.spec.interface_hash
    steps = [time_step_from_message(message, spec) for message in graph.episode(result.episode)]
    sent = np.array([plans[step].actions[0] for step in range(20)])
    robot = load_robot(path)
    simulation = DelayedSimulation(MujocoSimulation(robot), robot)
    simulation.reset(steps[0].state)
    for before, after in pairwise(steps):
        assert simulation.step(sent[before.step][None]).tobytes() == after.state.tobytes()
        acted = [sent[index] if index >= 0 else 0.0 for index in (before.step - 2, before.step - 1)]
        assert after.action[0] == 0.5 * acted[0] + 0.5 * acted[1]
        assert after.action[0] == before.committed_actions[0, 0], "what acts next is known at every step"
        assert before.sent_actions[:2, 0].tolist() == acted
        # Of what is decided for this step, half acts in the next interval and half in the one after.
        assert len(before.committed_actions) == len(before.sent_actions) - 1
    assert len(steps[-1].committed_actions) == len(steps[-1].sent_actions) == 0


def test_a_command_acts_no_earlier_and_the_time_out_still_works(graph: Graph, tmp_path: Path) -> None:
    delay = 0.3
    states: list[tuple[float, JointState]] = []
    graph.node.create_subscription(
        JointState, "joint_states", lambda message: states.append((time.time(), message)), qos.JOINT_STATES
    )
    commands = graph.node.create_publisher(Float64MultiArray, "effort_controller/commands", qos.COMMAND)
    graph.start("mujoco", robot_file=late_robot(tmp_path, delay, stated=False))
    graph.wait(lambda: states and commands.get_subscription_count(), 15.0)
    resting = abs(states[-1][1].velocity[0])
    begin = time.time()
    commands.publish(Float64MultiArray(data=[200.0]))

    def stamp(message: JointState) -> float:
        return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec

    graph.wait(lambda: abs(states[-1][1].velocity[0]) > resting + 1.0)
    early = [message for _, message in states if stamp(message) < begin + delay]
    assert early and all(abs(message.effort[0]) == 0.0 for message in early)
    graph.wait(lambda: states[-1][1].effort[0] == 0.0)
    acting = [stamp(message) for _, message in states if message.effort[0] == 200.0]
    # It holds for the time-out, which counts from when it began to act.
    assert acting[-1] - acting[0] > 0.1
    graph.wait(lambda: "the command is zero now" in graph.output("mujoco"))


def test_in_realtime_the_action_told_is_the_one_that_moved_the_cart(graph: Graph, tmp_path: Path) -> None:
    path = late_robot(tmp_path, 1.4 * PERIOD)
    graph.start("mujoco", robot_file=path)
    graph.start("robot", robot_file=path)
    graph.answer = lambda time_step: graph.make_plan(time_step, delay=1)
    result = graph.start_episode(max_steps=80, controller="planner")
    assert result.success, result.message
    steps = graph.episode(result.episode)
    told, gained, commanded = [], [], []
    for before, after in pairwise(steps):
        if after.action_valid and after.step == before.step + 1 and len(before.sent_actions) > 2:
            told.append(after.action[0])
            gained.append(after.state[2] - before.state[2])
            # The command of this very step: what would be told without a delay.
            commanded.append(before.sent_actions[2])
    assert len(told) > 30
    assert np.corrcoef(told, gained)[0, 1] > 0.95
    assert abs(np.corrcoef(commanded, gained)[0, 1]) < 0.7
