# SPDX-License-Identifier: Apache-2.0
"""Quality of service, one profile per role. No profile asks for deadline or liveliness: a default publisher would not
match, and the age of plans is the test of life."""

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
PLAN = _profile(1)
COMMAND = _profile(1)
JOINT_STATES = _profile(5, reliable=False)
LATCHED = _profile(1, latched=True)
STATUS = _profile(1000)
