# SPDX-License-Identifier: Apache-2.0
"""Specs, tasks, datasets, checkpoints, policy networks and the offline trial loop; knows no ROS."""
