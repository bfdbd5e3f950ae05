# SPDX-License-Identifier: Apache-2.0
"""Policies: from a state to a distribution over normalised actions. With their distributions the only part of this
package that needs torch.
"""

from mbrl_core.policies.base import POLICIES, LinearGaussian, Policy, PolicyError, make_policy
from mbrl_core.policies.chunks import ChunkPolicy
from mbrl_core.policies.distribution import ActionDistribution
from mbrl_core.policies.files import (
    load_policy,
    policy_arrays,
    policy_configuration,
    policy_from_arrays,
    save_policy,
)
from mbrl_core.policies.mixture import MixtureDistribution, MixturePolicy
from mbrl_core.policies.network import LOG_STD_RANGE, NetworkPolicy, NetworkPolicyConfig
from mbrl_core.policies.onnx import export_onnx
from mbrl_core.policies.time_varying import TimeVaryingLinearPolicy

__all__ = [
    "LOG_STD_RANGE",
    "POLICIES",
    "ActionDistribution",
    "ChunkPolicy",
    "LinearGaussian",
    "MixtureDistribution",
    "MixturePolicy",
    "NetworkPolicy",
    "NetworkPolicyConfig",
    "Policy",
    "PolicyError",
    "TimeVaryingLinearPolicy",
    "export_onnx",
    "load_policy",
    "make_policy",
    "policy_arrays",
    "policy_configuration",
    "policy_from_arrays",
    "save_policy",
]
