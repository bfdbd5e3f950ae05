# SPDX-License-Identifier: Apache-2.0
"""ROS nodes of this package."""
