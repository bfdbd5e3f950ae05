# SPDX-License-Identifier: Apache-2.0
"""What a trainer has made, latched: the newest policy, and the newest learned reward."""

import math
import os

from rclpy.lifecycle import LifecycleNode

from mbrl_core.learned_reward import LearnedReward
from mbrl_core.specs import RobotSpec
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_msgs.msg import Task as TaskMessage
from mbrl_policy.nodes.policy_message import policy_to_message
from mbrl_policy.nodes.training_job import Product
from mbrl_ros.conversions import task_to_message, with_version
from mbrl_ros.qos import LATCHED

REWARD_TOPIC = "learned_reward"


class Products:
    """Publishes on `policy` and `learned_reward`. Versions of both grow together, so that the larger one is newer."""

    def __init__(self, node: LifecycleNode, spec: RobotSpec) -> None:
        self._node, self._spec = node, spec
        self._producer = f"{node.get_fully_qualified_name()}@{os.uname().nodename}:{os.getpid()}"
        self._policies = node.create_publisher(PolicyMessage, "policy", LATCHED)
        self._rewards = node.create_publisher(TaskMessage, REWARD_TOPIC, LATCHED)
        self.policy_version = self.reward_version = 0  # 0 = none
        self.mean_return = math.nan  # of the newer one

    @property
    def version(self) -> int:
        """Of the newer one; 0 = there is none."""
        return max(self.policy_version, self.reward_version)

    def publish(self, product: Product, version: int, mean_return: float) -> None:
        """Takes the place of what was latched. An older version than the newest is passed over."""
        if version <= self.version:
            return
        stamp, self.mean_return = self._node.get_clock().now().to_msg(), mean_return
        if isinstance(product, LearnedReward):
            self.reward_version = version
            reward = with_version(product, version)
            self._rewards.publish(task_to_message(reward, self._spec.interface_hash, stamp))
        else:
            self.policy_version = version
            metrics = {"mean_return": mean_return}
            self._policies.publish(policy_to_message(product, self._producer, version, stamp, metrics))
