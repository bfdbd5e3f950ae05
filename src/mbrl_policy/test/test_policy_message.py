# SPDX-License-Identifier: Apache-2.0
"""Policies as messages: round trip, and what is refused."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time

from mbrl_core.checkpoint import decode_arrays, encode_arrays
from mbrl_core.policies import POLICIES, make_policy
from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import Policy as PolicyMessage
from mbrl_policy.nodes.policy_message import policy_from_message, policy_to_message
from mbrl_ros.conversions import MessageError

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
SPEC = load_robot(ROBOTS / "cartpole.yaml").spec
OTHER = load_robot(ROBOTS / "pendulum.yaml").spec


def a_message(of_kind: str = "mlp", **changes: Any) -> PolicyMessage:
    message = policy_to_message(make_policy(of_kind, {}, SPEC, 3), "test", 4, Time(sec=5), {"return": 1.5})
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize("kind", POLICIES.names())
def test_a_message_brings_the_very_policy(kind: str) -> None:
    message = a_message(kind)
    policy = policy_from_message(message, SPEC)
    states = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    expected = make_policy(kind, {}, SPEC, 3)
    np.testing.assert_array_equal(policy.mode(states, 2).detach(), expected.mode(states, 2).detach())
    assert policy.config == expected.config
    assert (message.version, message.producer, message.header.stamp.sec) == (4, "test", 5)
    assert dict(zip(message.metric_names, message.metric_values, strict=True)) == {"return": 1.5}


def with_weights(**arrays: np.ndarray) -> dict[str, Any]:
    """Fields of a message with some arrays replaced, whose checksum fits."""
    content = encode_arrays({**decode_arrays(bytes(a_message().weights), "test"), **arrays})
    return {"weights": content, "crc32": zlib.crc32(content)}


def cut(size: int) -> dict[str, Any]:
    content = bytes(a_message().weights)[:size]
    return {"weights": content, "crc32": zlib.crc32(content)}


@pytest.mark.parametrize(
    ("changes", "reason", "text"),
    [
        ({"version_of_layout": 9}, "other_layout", "policy: layout version 9, expected 1"),
        ({"interface_hash": OTHER.interface_hash}, "other_interface", "policy: interface .* of robot 'cartpole'"),
        ({"interface_hash": ""}, "other_interface", "policy: interface 'empty'"),
        ({"crc32": 5}, "damaged_policy", "policy: version 4 from 'test': .* with checksum .*, expected 00000005"),
        (cut(0), "damaged_policy", "policy: version 4 from 'test': not a whole safetensors file of 0 bytes"),
        (cut(1000), "damaged_policy", "policy: .*: not a whole safetensors file of 1000 bytes"),
        ({"kind": "tree"}, "invalid_policy", "policy: .* unknown policy 'tree', expected one of: chunks, linear, mix"),
        ({"kind": "linear"}, "invalid_policy", "policy: version 4 from 'test': unknown parameter"),
        ({"configuration": "{"}, "invalid_policy", "policy: .* configuration is '{', expected a JSON object"),
        ({"configuration": "[1]"}, "invalid_policy", "expected a JSON object"),
        ({"configuration": json.dumps({"hidden_units": 8})}, "invalid_policy", r"\[64, 5\], expected .* \[8, 5\]"),
        ({"configuration": json.dumps({"hidden_units": 10**9})}, "invalid_policy", "expected at most 4096"),
        (with_weights(observation_shift=np.full(5, np.nan, np.float32)), "invalid_policy", "expected finite numbers"),
        (with_weights(surplus=np.zeros(3)), "invalid_policy", "array 'surplus' is unknown"),
    ],
)  # fmt: skip
def test_what_is_no_policy_of_this_robot_is_refused(changes: dict[str, Any], reason: str, text: str) -> None:
    with pytest.raises(MessageError, match=text) as caught:
        policy_from_message(a_message(**changes), SPEC)
    assert caught.value.reason == reason
