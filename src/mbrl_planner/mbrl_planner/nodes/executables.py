# SPDX-License-Identifier: Apache-2.0
"""The package's executables. They import nothing of it before signals are taken care of."""

from functools import partial

from mbrl_ros.start import start

planner_node = partial(start, "mbrl_planner.nodes.planner_node")
