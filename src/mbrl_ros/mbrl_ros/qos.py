# SPDX-License-Identifier: Apache-2.0
"""Quality of service, one profile per role. No profile asks for deadline or liveliness: a default publisher would not
match, and the age of plans is the test of life."""

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


# A controller wants the newest state only; the learner and the recorder want every one.
TIME_STEP_CONTROL = _profile(1)
TIME_STEP_RECORD = _profile(1000)
# Deep on the publisher's side: a recorder that is late for a moment still gets every plan.
PLAN = _profile(1000)
# Whoever takes plans has one queue for all controllers, which may answer at the same moment: none may push out those of
# another.
PLAN_FROM_ALL = _profile(16)
COMMAND = _profile(1)
# Whoever listens for a sign of life among its own commands: neither may push out the other.
COMMAND_FROM_ALL = _profile(16)
JOINT_STATES = _profile(5, reliable=False)
# Whoever measures what the robot does.
EVERY_JOINT_STATE = _profile(1000, reliable=False)
NEWEST_JOINT_STATES = _profile(1, reliable=False)
LATCHED = _profile(1, latched=True)
STATUS = _profile(1000)
# Every one for those who listen all the time, the newest for who comes later.
LEARNER_STATUS = _profile(1000, latched=True)

# Seconds after which a request is sent again. It, or its answer, is lost where the two sides have only half discovered
# each other, or the server was killed just then: middleware goes on showing a dead one for a while.
ANSWER_TIMEOUT = 2.0

# rclpy gives every publisher and subscription two handlers that log incompatible profiles. Each is looked at whenever
# its process wakes up, and together they cost as much as all the rest; the other side logs the same.
QUIET_PUBLISHER = PublisherEventCallbacks(use_default_callbacks=False)
QUIET_SUBSCRIPTION = SubscriptionEventCallbacks(use_default_callbacks=False)
