# SPDX-License-Identifier: Apache-2.0
"""What markers_node makes of the plan of a real planner, over DDS."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from graph import ROBOTS, SPEC, Graph, learned_model, model_message
from visualization_msgs.msg import Marker, MarkerArray

from mbrl_ros.conversions import plan_from_message
from mbrl_ros.qos import LATCHED, STATUS

NODE = "from mbrl_robot.nodes.executables import markers_node; markers_node()"


def points(marker: Marker) -> np.ndarray:
    return np.array([[point.x, point.y, point.z] for point in marker.points])


def test_markers_of_a_plan(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph("mode:=lockstep", "planner.population_size:=24", "planner.horizon:=10")
    seen: list[list[Marker]] = []
    obstacles: list[list[Marker]] = []
    graph.node.create_subscription(MarkerArray, "plan_markers", lambda m: seen.append(list(m.markers)), STATUS)
    graph.node.create_subscription(
        MarkerArray, "obstacle_markers", lambda m: obstacles.append(list(m.markers)), LATCHED
    )
    words = ["--ros-args", "-p", f"robot_file:={ROBOTS / 'cartpole.yaml'}"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(graph.node.context.get_domain_id())}
    markers = subprocess.Popen([sys.executable, "-c", NODE, *words], env=environment)
    try:
        graph.until(lambda: graph.node.count_publishers("plan_markers") == 1)
        graph.until(lambda: graph.planner._plan_publisher.get_subscription_count() == 2)
        graph.publish_spec()
        graph.publish_task(obstacles=[0.5, 0.3, 0.1])
        graph.publish_model(model_message(learned_model(members=1), 1))
        graph.select("planner")
        graph.until(lambda: graph.planner._controller is not None and graph.planner._hot)
        plan = plan_from_message(graph.answer(0), SPEC)
        graph.until(lambda: bool(seen))
        graph.until(lambda: bool(obstacles))
    finally:
        markers.terminate()
        assert markers.wait(10.0) == 0
    assert plan.predicted_states is not None and plan.predicted_std is not None

    (path,) = [marker for marker in seen[0] if marker.type == Marker.LINE_STRIP and marker.action == Marker.ADD]
    x, angle = plan.predicted_states[:, 0], plan.predicted_states[:, 1]
    expected = np.stack([x - 0.6 * np.sin(angle), np.zeros_like(x), -0.6 * np.cos(angle)], axis=-1)
    np.testing.assert_allclose(points(path), expected, atol=1e-9)
    assert (path.ns, path.header.frame_id, path.header.stamp.sec) == ("path/planner", "world", 0)

    spread = [marker for marker in seen[0] if marker.ns == "spread/planner" and marker.action == Marker.ADD]
    assert [marker.id for marker in spread] == list(range(len(x)))
    for marker, state, std in zip(spread, plan.predicted_states, plan.predicted_std, strict=True):
        # The tip moves with the cart, and across the pole with the hinge.
        across = 0.6 * np.array([-np.cos(state[1]), np.sin(state[1])])
        covariance = std[1] ** 2 * np.outer(across, across) + np.diag([std[0] ** 2, 0.0])
        largest = np.sqrt(np.linalg.eigvalsh(covariance)[-1])
        assert max(marker.scale.x, marker.scale.y, marker.scale.z) == pytest.approx(max(4.0 * largest, 1e-3), rel=1e-6)

    disc = obstacles[-1][-1]
    assert (disc.type, disc.ns) == (Marker.CYLINDER, "obstacles")
    assert (disc.pose.position.x, disc.pose.position.y, disc.pose.position.z) == pytest.approx((0.5, 0.0, 0.3))
    assert (disc.scale.x, disc.scale.y) == pytest.approx((0.2, 0.2))
    # Its axis is the world's y: a quarter turn about x, either way, or one that comes to the same.
    q = disc.pose.orientation
    axis = (2 * (q.x * q.z + q.w * q.y), 2 * (q.y * q.z - q.w * q.x), 1 - 2 * (q.x**2 + q.y**2))
    assert np.abs(axis) == pytest.approx((0.0, 1.0, 0.0), abs=1e-6)
