# SPDX-License-Identifier: Apache-2.0
"""A robot, states and policies with drawn weights, for tests of policies."""

import math
from typing import Any

import torch

from mbrl_core.config import describe
from mbrl_core.policies import POLICIES, Policy, make_policy
from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec

INFINITE = (math.inf,) * 4
SPEC = RobotSpec(
    name="two",
    period=0.05,
    state=StateSpec(
        ("x", "angle", "x_velocity", "angle_velocity"),
        ("linear", "angular", "linear", "linear"),
        ("m", "rad", "m/s", "rad/s"),
        tuple(-value for value in INFINITE),
        INFINITE,
    ),
    action=ActionSpec(
        ("x", "y"), ("effort", "effort"), ("N", "N"), (-1.0, 0.0), (1.0, 4.0), (1.0, 1.0), (math.inf, math.inf)
    ),
)
HORIZON = 5
STEP = 3
NETWORKS = [kind for kind in POLICIES.names() if kind != "time_varying_linear"]
SMALL = {
    "mlp": {"hidden_units": 16},
    "rbf": {"basis_functions": 12},
    "time_varying_linear": {"horizon": HORIZON},
    "mixture": {"hidden_units": 16, "components": 3, "least_std": 0.1},
    "chunks": {"hidden_units": 16, "chunk": 4},
}
COVARIANCES = {
    kind: next(each.choices for each in describe(POLICIES.get(kind).configuration) if each.name == "covariance")
    for kind in NETWORKS
}
# Every kind with what all networks can be told to do.
CASES: list[tuple[str, dict[str, Any]]] = [
    *[(kind, {"squash": squash}) for kind in NETWORKS for squash in (False, True)],
    *[
        (kind, {"covariance": "full", "squash": squash})
        for kind in NETWORKS
        if "full" in (COVARIANCES[kind] or ())
        for squash in (False, True)
    ],
    *[
        (kind, {"covariance": (COVARIANCES[kind] or ("",))[0], "observed": ["x_velocity", "angle"]})
        for kind in NETWORKS
    ],
    ("time_varying_linear", {}),
]


def name_of(case: tuple[str, dict[str, Any]]) -> str:
    """For the names of tests."""
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


def drawn_policy(case: tuple[str, dict[str, Any]], seed: int = 1) -> Policy:
    """A policy whose every weight and statistic differs from where it starts."""
    kind, changes = case
    policy = make_policy(kind, {**SMALL.get(kind, {}), **changes}, SPEC, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weights in policy.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=generator))
        for name, values in policy.named_buffers():
            if name in ("observation_shift", "states"):
                values.add_(0.5 * torch.randn(values.shape, generator=generator))
            if name == "observation_scale":
                values.mul_(1.0 + torch.rand(values.shape, generator=generator))
            if name == "scale_tril":
                values.add_(0.3 * torch.tril(torch.rand(values.shape, generator=generator)))
    return policy


def states(count: int, seed: int = 3) -> torch.Tensor:
    """States [count, 4]."""
    return 2.0 * torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
