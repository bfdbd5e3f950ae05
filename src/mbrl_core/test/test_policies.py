# SPDX-License-Identifier: Apache-2.0
"""Every registered policy: limits, densities, angles, checkpoints."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.policies import POLICIES, Policy, load_policy, make_policy, save_policy
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


@pytest.fixture(params=[(kind, squash) for kind in POLICIES.names() for squash in (False, True)])
def policy(request: pytest.FixtureRequest) -> Policy:
    kind, squash = request.param
    policy = make_policy(kind, {"squash": squash}, SPEC, seed=1)
    with torch.no_grad():
        for weights in policy.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(2)))
    return policy


def states(count: int) -> torch.Tensor:
    return 2.0 * torch.randn(count, 4, generator=torch.Generator().manual_seed(3))


def test_modes_and_squashed_samples_keep_the_limits(policy: Policy) -> None:
    lower, upper = torch.tensor(SPEC.action.lower), torch.tensor(SPEC.action.upper)
    actions = [policy.mode(states(500))]
    if policy.config.squash:
        actions.append(policy.act(states(500)).sample())
    for values in actions:
        assert values.shape == (500, 2)
        assert (values >= lower - 1e-5).all() and (values <= upper + 1e-5).all()


def test_densities_integrate_to_one(policy: Policy) -> None:
    # Points crowd towards the limits of a squashed policy, where its density is steep.
    axis = torch.linspace(-9.0, 9.0, 601, dtype=torch.float64)
    axes = [axis, axis]
    if policy.config.squash:
        axes = [
            low + (high - low) * torch.sigmoid(axis[1:-1])
            for low, high in zip(SPEC.action.lower, SPEC.action.upper, strict=True)
        ]
    cells = torch.outer(*(torch.gradient(values)[0] for values in axes)).flatten()
    points = torch.cartesian_prod(*axes).float()
    with torch.no_grad():
        density = policy.act(states(1).expand(len(points), 4)).log_prob(points).exp()
    assert float((density * cells).sum()) == pytest.approx(1.0, abs=0.02)


def test_whole_turns_change_nothing(policy: Policy) -> None:
    turned = states(20).clone()
    turned[:, 1] += 2.0 * math.pi
    torch.testing.assert_close(policy.mode(turned), policy.mode(states(20)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(policy.mode(states(20) + torch.tensor([0.0, 1.0, 0.0, 0.0])), policy.mode(states(20)))


def test_checkpoints_come_back_bit_by_bit(policy: Policy, tmp_path: Path) -> None:
    policy.observation_scale[:] = torch.linspace(1.0, 2.0, policy.observation_size)
    save_policy(tmp_path / "policy.safetensors", policy)
    again = load_policy(tmp_path / "policy.safetensors", SPEC)
    np.testing.assert_array_equal(again.mode(states(9)).detach().numpy(), policy.mode(states(9)).detach().numpy())
    other = dataclasses.replace(SPEC, period=0.1)
    with pytest.raises(CheckpointError, match="expected .* of robot 'two'"):
        load_policy(tmp_path / "policy.safetensors", other)


def test_seeds_draw_weights_and_leave_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, same, other = (make_policy("mlp", {}, SPEC, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.mode(states(1)), other.mode(states(1)))
