# SPDX-License-Identifier: Apache-2.0
"""Dynamics models by name."""

from collections.abc import Mapping
from typing import Any

from mbrl_core.config import ConfigurationError
from mbrl_core.registry import Registry
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.model import DynamicsModel

DYNAMICS: Registry[DynamicsModel] = Registry(
    "dynamics", ("mbrl_dynamics.ensemble", "mbrl_dynamics.known", "mbrl_dynamics.linear")
)


def make_model(kind: str, mapping: Mapping[str, Any], spec: RobotSpec, seed: int) -> DynamicsModel:
    """Builds an untrained model. `mapping` holds the kind's parameters, a `kind` key among them is passed over.

    Raises ConfigurationError on an unknown kind, an unknown parameter or a value out of range.
    """
    if mapping.get("kind", kind) != kind:
        raise ConfigurationError(f"dynamics kind: got {kind!r} and a configuration of {mapping['kind']!r}")
    entry = DYNAMICS.get(kind)
    return entry.implementation(DYNAMICS.configure(kind, dict(mapping)), spec, seed)
