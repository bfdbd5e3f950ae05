# SPDX-License-Identifier: Apache-2.0
"""A context of its own for every test, seen by nobody else."""

import os
from collections.abc import Iterator

import pytest
import rclpy


@pytest.fixture
def ros(free_domain: int) -> Iterator[None]:
    """Starts and stops rclpy in a domain of this module alone."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(domain_id=free_domain)
    yield
    rclpy.try_shutdown()
