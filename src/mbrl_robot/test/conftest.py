# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that start nodes."""

from collections.abc import Iterator

import pytest
from robot_graph import Graph


@pytest.fixture(scope="module")
def domain(free_domain: int) -> int:
    """Domain of a module: none that another run of these tests on this machine is in."""
    return free_domain


@pytest.fixture
def graph(domain: int) -> Iterator[Graph]:
    """A graph for one test."""
    graph = Graph(domain)
    yield graph
    graph.close()


@pytest.fixture(scope="module")
def shared_graph(domain: int) -> Iterator[Graph]:
    """A graph for all tests of a module."""
    graph = Graph(domain)
    yield graph
    graph.close()
