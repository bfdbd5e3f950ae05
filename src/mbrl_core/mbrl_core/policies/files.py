# SPDX-License-Identifier: Apache-2.0
"""Policies as arrays and as checkpoints: what comes in is checked whole before it becomes a policy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_core.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from mbrl_core.config import ConfigurationError, to_mapping
from mbrl_core.policies.base import Policy, PolicyError, make_policy
from mbrl_core.specs import RobotSpec

ROLE = "policy"
# Entries that a standard deviation or a scale of zero or below would make useless.
POSITIVE = ("observation_scale",)


def policy_arrays(policy: Policy) -> dict[str, np.ndarray]:
    """Weights and statistics of a policy by name, copied."""
    return {name: value.detach().cpu().numpy().copy() for name, value in policy.state_dict().items()}


def policy_configuration(policy: Policy) -> dict[str, Any]:
    """The kind's configuration as plain numbers, texts and lists."""
    return to_mapping(policy.config)


def policy_from_arrays(
    kind: str, configuration: Mapping[str, Any], arrays: Mapping[str, np.ndarray], spec: RobotSpec, source: str
) -> Policy:
    """The policy of what `policy_configuration` and `policy_arrays` gave.

    Raises PolicyError that begins with `source`: an unknown kind or parameter, an array that is missing, too many, of
    another shape or type, not finite, or a scale that is not positive.
    """
    try:
        policy = make_policy(kind, dict(configuration), spec, seed=0)
    except ConfigurationError as error:
        raise PolicyError(f"{source}: {error}") from None
    expected = policy.state_dict()
    for name in (*expected, *arrays):
        if name not in arrays or name not in expected:
            found = "is missing" if name not in arrays else "is unknown"
            raise PolicyError(f"{source}: array {name!r} {found}, a {kind!r} policy has {', '.join(expected)}")
    for name, wanted in expected.items():
        array = arrays[name]
        shape, dtype = tuple(wanted.shape), wanted.detach().cpu().numpy().dtype
        if array.shape != shape or array.dtype != dtype:
            raise PolicyError(
                f"{source}: array {name!r} is {array.dtype} {list(array.shape)}, expected {dtype} {list(shape)}"
            )
        if not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0].tolist()
            raise PolicyError(f"{source}: array {name!r} is {array[tuple(place)]} at {place}, expected finite numbers")
        if name in POSITIVE and not (array > 0.0).all():
            raise PolicyError(f"{source}: array {name!r} has {array.min():g}, expected positive numbers")
    policy.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return policy


def save_policy(path: str | Path, policy: Policy, information: Mapping[str, Any] | None = None) -> None:
    """Writes a checkpoint, atomically; `information` (JSON) is kept beside the policy's own. Raises OSError."""
    own = {
        "role": ROLE,
        "kind": policy.kind,
        "configuration": policy_configuration(policy),
        "interface_hash": policy.spec.interface_hash,
    }
    save_checkpoint(path, policy_arrays(policy), {**(information or {}), **own})


def load_policy(path: str | Path, spec: RobotSpec) -> Policy:
    """Reads a policy of the robot `spec`.

    Raises CheckpointError when the file is damaged, cut short, no policy, or of another interface; PolicyError, which
    is one, when its numbers do not fit its kind; FileNotFoundError.
    """
    arrays, information = load_checkpoint(path)
    if information.get("role") != ROLE:
        raise CheckpointError(f"{path}: got a checkpoint of {information.get('role')!r}, expected {ROLE!r}")
    interface, kind = information.get("interface_hash"), information.get("kind")
    configuration = information.get("configuration")
    if not isinstance(interface, str) or not isinstance(kind, str) or not isinstance(configuration, dict):
        raise CheckpointError(f"{path}: a checkpoint of a policy without interface_hash, kind or configuration")
    if interface != spec.interface_hash:
        raise CheckpointError(
            f"{path}: policy of interface {interface[:12]!r}, expected {spec.interface_hash[:12]!r}"
            f" of robot {spec.name!r}"
        )
    return policy_from_arrays(kind, configuration, arrays, spec, str(path))
