# SPDX-License-Identifier: Apache-2.0
"""gazebo_reset_node asks by the services that are there; their messages need not be installed for the first test."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from robot_graph import DISCOVERY, ROBOTS, Graph
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from mbrl_msgs.srv import ResetBackend
from mbrl_ros import qos

STAND_IN = Path(__file__).with_name("gazebo_stand_in.py")
ROBOT_FILE = ROBOTS / "pendulum.yaml"
# Type and name of the service, and its answer when all went well and when not.
WAYS = {
    "ResetSimulation": ("simulation_interfaces", "/gzserver/reset_simulation"),
    "ControlWorld": ("ros_gz_interfaces", "/world/mbrl/control"),
}


def start(graph: Graph, **parameters: Any) -> list[JointState]:
    """The stand-in with the robot in its world, and the node; returns the joint states as they come."""
    seen: list[JointState] = []
    remap = {"/world/mbrl/model/pendulum/joint_state": "joint_states"}
    graph.start("gazebo", program=STAND_IN, robot_file=ROBOT_FILE, remap=remap)
    graph.start("gazebo_reset", robot_file=ROBOT_FILE, path="bridge", **parameters)
    graph.node.create_subscription(JointState, "joint_states", seen.append, qos.JOINT_STATES)
    graph.wait(lambda: len(seen) > 20, 20.0)
    return seen


def test_without_any_way_it_is_said_what_is_missing(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    start(graph)
    response = graph.call(ResetBackend, "reset_backend", episode=1)
    assert not response.success
    assert response.message == "reset_backend: reset the world: there is no command `gz`"
    response = graph.call(ResetBackend, "reset_backend", episode=1, state=[1.0, 0.0])
    assert not response.success and "Gazebo cannot set joint positions" in response.message


@pytest.mark.parametrize("type_name", WAYS)
def test_resets_by_the_service_that_is_there(graph: Graph, type_name: str) -> None:
    package, name = WAYS[type_name]
    pytest.importorskip(package)
    service = getattr(importlib.import_module(f"{package}.srv"), type_name)
    requests: list[Any] = []
    refuse = [True]
    client = graph.node.create_client(Trigger, "gazebo_stand_in/reset", callback_group=MutuallyExclusiveCallbackGroup())

    async def reset(request: Any, response: Any) -> Any:
        requests.append(request)
        if not refuse[0]:
            await client.call_async(Trigger.Request())
        if type_name == "ResetSimulation":
            response.result.result = 4 if refuse[0] else 1
            response.result.error_message = "not now" if refuse[0] else ""
        else:
            response.success = not refuse[0]
        return response

    graph.node.create_service(service, name, reset)
    seen = start(graph)
    graph.wait(client.service_is_ready, DISCOVERY)
    response = graph.call(ResetBackend, "reset_backend", episode=1)
    assert not response.success
    assert ("result 4: not now" if type_name == "ResetSimulation" else "Gazebo says no") in response.message

    refuse[0] = False
    before = seen[-1].header.stamp.sec * 10**9 + seen[-1].header.stamp.nanosec
    response = graph.call(ResetBackend, "reset_backend", episode=1)
    assert response.success, response.message
    assert list(response.state) == pytest.approx([0.0, 0.0], abs=1e-9)
    assert 0 < response.stamp_ns < before
    if type_name == "ControlWorld":
        control = requests[-1].world_control
        assert control.reset.all and not control.pause
    graph.wait(lambda: graph.diagnostics.get("/gazebo_reset", {}).get("resets_by") == name)
    # Asked again within moments, as after an answer that was lost, it gives the same one.
    again = graph.call(ResetBackend, "reset_backend", episode=1)
    assert (again.success, again.stamp_ns) == (True, response.stamp_ns)
    assert len(requests) == 2
