# SPDX-License-Identifier: Apache-2.0
"""Soft stops, limits of speed and the uncertainty stop in robot_node, with real nodes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from robot_graph import ROBOTS, Graph
from std_msgs.msg import Bool

from mbrl_msgs.msg import Plan, TimeStep
from mbrl_ros import qos

GUARD = {
    "soft_stop": {"slider": {"margin": 0.5, "braking": 3.0}},
    "velocity": {"slider": {"limit": 3.0, "braking": 3.0}},
    "predicted_std": {"hinge_position": 0.5},
}


def start(graph: Graph, folder: Path, mode: str) -> None:
    """Both nodes with a cart-pole whose guard is on."""
    content = yaml.safe_load((ROBOTS / "cartpole.yaml").read_text())
    content["guard"] = GUARD
    content["control"]["chain"] = ["planner", "explore"]
    path = folder / "cartpole.yaml"
    path.write_text(yaml.safe_dump(content))
    for name in ("mujoco", "robot"):
        graph.start(name, robot_file=path, mode=mode)


def spread(graph: Graph, time_step: TimeStep, std: float) -> Plan:
    """A plan that predicts a spread of the hinge."""
    deviations = np.zeros((7, 4))
    deviations[1:, 1] = std
    fields: dict[str, Any] = {"predicted_states": [0.0] * 28, "predicted_std": deviations.ravel().tolist()}
    return graph.make_plan(time_step, **fields)


def test_a_plan_that_drives_on_does_not_reach_the_end_of_the_rail(graph: Graph, tmp_path: Path) -> None:
    start(graph, tmp_path, "lockstep")
    graph.answer = lambda time_step: graph.make_plan(time_step, actions=[3.0] * 6)
    result = graph.start_episode(controller="planner", max_steps=150, start_state=[0.0] * 4)
    assert result.success, result.message
    steps = graph.episode(result.episode, 60.0)
    positions = [step.state[0] for step in steps]
    assert 1.9 < max(positions) < 2.5
    assert max(abs(step.state[2]) for step in steps) < 4.5
    # What was executed is what is told.
    assert any(step.action[0] != 3.0 for step in steps[1:]) and all(step.controller == "planner" for step in steps[1:])
    graph.wait(lambda: int(graph.diagnostics.get("/robot", {}).get("held_back/soft_stop", 0)) > 0)
    assert int(graph.diagnostics["/robot"]["held_back/velocity"]) > 0


def test_the_next_controller_serves_where_a_plan_is_too_uncertain(graph: Graph, tmp_path: Path) -> None:
    start(graph, tmp_path, "lockstep")

    def answer(time_step: TimeStep) -> Plan:
        # The one that is not waited for first, so that it is there in time.
        graph.plans.publish(graph.make_plan(time_step, controller="explore"))
        return spread(graph, time_step, 2.0 if 5 <= time_step.step < 10 else 0.1)

    graph.answer = answer
    result = graph.start_episode(controller="planner", max_steps=20, start_state=[0.0] * 4)
    assert result.success, result.message
    steps = graph.episode(result.episode, 60.0)
    assert [step.controller for step in steps[1:]] == ["planner"] * 5 + ["explore"] * 5 + ["planner"] * 10
    reasons = [state.reason for state in graph.controller_states if state.active == "explore"]
    assert reasons == ["too uncertain a plan from 'planner'"]
    graph.wait(lambda: graph.diagnostics.get("/robot", {}).get("uncertain_plans") == "5")


def test_in_realtime_the_safe_action_is_behind_it(graph: Graph, tmp_path: Path) -> None:
    start(graph, tmp_path, "realtime")
    graph.answer = lambda time_step: spread(graph, time_step, 2.0)
    result = graph.start_episode(controller="planner", max_steps=10)
    assert result.success, result.message
    assert all(step.controller == "safe" for step in graph.episode(result.episode)[1:])
    graph.wait(lambda: int(graph.diagnostics.get("/robot", {}).get("uncertain_plans", 0)) > 0)


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_an_emergency_stop_that_was_there_first_latches(graph: Graph, tmp_path: Path, mode: str) -> None:
    stops = graph.node.create_publisher(Bool, "emergency_stop", qos.LATCHED)
    stops.publish(Bool(data=True))
    start(graph, tmp_path, mode)
    graph.wait(lambda: graph.controller_states and graph.controller_states[-1].emergency_stop, 15.0)
    result = graph.start_episode(required_controllers=[])
    assert not result.success and "the emergency stop is latched" in result.message


def test_an_emergency_stop_in_lockstep_ends_the_episode(graph: Graph, tmp_path: Path) -> None:
    start(graph, tmp_path, "lockstep")
    stops = graph.node.create_publisher(Bool, "emergency_stop", 1)

    def answer(time_step: TimeStep) -> Plan | None:
        if time_step.step < 5:
            return graph.make_plan(time_step)
        stops.publish(Bool(data=True))
        return None

    graph.answer = answer
    result = graph.start_episode(controller="planner", max_steps=50)
    assert result.success, result.message
    last = graph.episode(result.episode)[-1]
    assert last.end_reason == TimeStep.FAULT and last.step == 6 and last.controller == "safe"
