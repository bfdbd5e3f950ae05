# SPDX-License-Identifier: Apache-2.0
"""A context of its own for every test, seen by nobody else."""

import os
from collections.abc import Iterator

import pytest
import rclpy


@pytest.fixture
def ros() -> Iterator[None]:
    """Starts and stops rclpy in a domain of this process alone."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(domain_id=100 + os.getpid() % 100)
    yield
    rclpy.try_shutdown()
