# SPDX-License-Identifier: Apache-2.0
"""The package's executables. They import nothing of it before signals are taken care of."""

from functools import partial

from mbrl_ros.start import start

explore_node = partial(start, "mbrl_policy.nodes.explore_node")
policy_node = partial(start, "mbrl_policy.nodes.policy_node")
recorder_node = partial(start, "mbrl_policy.nodes.recorder_node")
teleop_node = partial(start, "mbrl_policy.nodes.teleop_node")
trainer_node = partial(start, "mbrl_policy.nodes.trainer_node")
