# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that start nodes."""

from collections.abc import Iterator

import pytest
from robot_graph import Graph

from mbrl_bringup.domains import reserved_domain


@pytest.fixture(scope="module")
def domain() -> int:
    """Domain of a module; each module overrides it."""
    raise NotImplementedError("a module with nodes needs a domain of its own")


@pytest.fixture(scope="module")
def free_domain() -> Iterator[int]:
    """A domain that nobody on this machine uses."""
    with reserved_domain() as domain:
        yield domain


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
