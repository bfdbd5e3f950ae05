# SPDX-License-Identifier: Apache-2.0
"""Where policy_node's policy comes from: the latched topic, or a checkpoint named at the start."""

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.policies import Policy, load_policy
from mbrl_core.specs import RobotSpec
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_policy.nodes.policy_message import policy_from_message
from mbrl_ros.conversions import MessageError, spec_from_message
from mbrl_ros.steady import now_ns

OTHER_INTERFACE = "other_interface"


class PolicySource:
    """Spec and policy in force.

    Each `take_*` raises MessageError and leaves what was in force as it was. Latched topics come in any order: a policy
    that comes before its robot's spec is kept until then. A policy of the topic has precedence over that of `file`,
    which holds from the spec on until there is one.
    """

    def __init__(self, file: str = "") -> None:
        self.spec: RobotSpec | None = None
        self.policy: Policy | None = None
        self.version = 0  # of the policy in force; 0 is that of the file, or none
        self.received_ns = 0
        self._file = file
        self._accepted: PolicyMessage | None = None
        self._early: PolicyMessage | None = None

    def take_spec(self, message: RobotSpecMessage) -> bool:
        """Takes the robot's spec. Returns true when it differs from the one in force; a policy of another interface is
        then gone, and one of the same has the new limits.
        """
        spec = spec_from_message(message)
        if spec == self.spec:
            return False
        same_interface = self.spec is not None and spec.interface_hash == self.spec.interface_hash
        self.spec, self.policy = spec, None
        if not same_interface:
            self._accepted, self.version = None, 0
        if self._accepted is not None:
            self.policy = policy_from_message(self._accepted, spec)
        return True

    def early(self) -> PolicyMessage | None:
        """A policy that came before its spec, for the caller to take now."""
        early, self._early = self._early, None
        return early

    def take_file(self) -> bool:
        """Takes the policy of the file, if there is one and none in force. Raises MessageError."""
        if not self._file or self.policy is not None or self.spec is None:
            return False
        try:
            self.policy = load_policy(self._file, self.spec)
        except (CheckpointError, OSError) as error:
            raise MessageError("invalid_policy", f"parameter 'policy_file': {error}") from None
        self.received_ns = now_ns()
        return True

    def take_policy(self, message: PolicyMessage) -> bool:
        """Takes a policy. Returns false when it is the one in force already, or has to wait for the spec."""
        if self.spec is None:
            self._early = message
            return False
        known = self._accepted
        if known is not None and (message.producer, message.version) == (known.producer, known.version):
            return False
        try:
            policy = policy_from_message(message, self.spec)
        except MessageError as error:
            if error.reason == OTHER_INTERFACE:
                self._early = message
            raise
        self.policy, self.version, self._accepted = policy, message.version, message
        self.received_ns = now_ns()
        return True
