# SPDX-License-Identifier: Apache-2.0
"""Policies as messages. What comes in is checked whole before it becomes a policy."""

import json
import zlib
from collections.abc import Mapping

from builtin_interfaces.msg import Time

from mbrl_core.checkpoint import CheckpointError, decode_arrays, encode_arrays
from mbrl_core.policies import Policy, PolicyError, policy_arrays, policy_configuration, policy_from_arrays
from mbrl_core.specs import RobotSpec
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_ros.conversions import MessageError, check_interface, check_layout, checked_weights

TOPIC = "policy"


def policy_to_message(
    policy: Policy, producer: str, version: int, stamp: Time, metrics: Mapping[str, float] | None = None
) -> PolicyMessage:
    """Message of a policy. `version` grows with every publication of `producer` and starts at 1."""
    weights = encode_arrays(policy_arrays(policy))
    metrics = dict(metrics or {})
    message = PolicyMessage(
        version_of_layout=PolicyMessage.VERSION,
        interface_hash=policy.spec.interface_hash,
        kind=policy.kind,
        producer=producer,
        version=version,
        configuration=json.dumps(policy_configuration(policy), sort_keys=True),
        metric_names=list(metrics),
        metric_values=[float(value) for value in metrics.values()],
        weights=weights,
        crc32=zlib.crc32(weights),
    )
    message.header.stamp = stamp
    return message


def policy_from_message(message: PolicyMessage, spec: RobotSpec) -> Policy:
    """Policy of a Policy message.

    Raises MessageError: other_layout; other_interface; damaged_policy when the weights do not fit their checksum or are
    cut short; invalid_policy on an unknown kind, a configuration that does not fit, and weights that are missing, of
    another shape or not finite.
    """
    check_layout(TOPIC, message.version_of_layout, PolicyMessage.VERSION)
    check_interface(TOPIC, message.interface_hash, spec)
    source = f"{TOPIC}: version {message.version} from {message.producer!r}"
    weights = checked_weights(message, "damaged_policy", source)
    try:
        configuration = json.loads(message.configuration)
    except json.JSONDecodeError:
        configuration = None
    if not isinstance(configuration, dict):
        raise MessageError(
            "invalid_policy", f"{source}: configuration is {message.configuration!r}, expected a JSON object"
        )
    try:
        return policy_from_arrays(message.kind, configuration, decode_arrays(weights, source), spec, source)
    except PolicyError as error:
        raise MessageError("invalid_policy", str(error)) from None
    except CheckpointError as error:
        raise MessageError("damaged_policy", str(error)) from None
