# SPDX-License-Identifier: Apache-2.0
"""A planner node with the graph around it, in a domain of this process alone."""

import os
from collections.abc import Callable, Iterator

import pytest
import rclpy
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_graph(free_domain: int) -> Iterator[Callable[..., "Graph"]]:  # type: ignore[name-defined]  # noqa: F821
    """Makes the graph with parameters of the planner node given as `name=value` texts."""
    from graph import Graph

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
