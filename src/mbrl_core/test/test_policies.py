# SPDX-License-Identifier: Apache-2.0
"""Every registered policy: limits, densities, angles, derivatives, the fast form, presets."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from policy_problems import CASES, NETWORKS, SPEC, STEP, drawn_policy, name_of, states
from scipy.stats import multivariate_normal
from torch.distributions import AffineTransform, TanhTransform, TransformedDistribution, kl_divergence

from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.policies import (
    POLICIES,
    ActionDistribution,
    NetworkPolicy,
    Policy,
    PolicyError,
    TimeVaryingLinearPolicy,
    make_policy,
)
from mbrl_core.policies.rbf import RbfPolicy

PRESETS = Path(__file__).resolve().parents[3] / "config" / "policy"
LOWER, UPPER = torch.tensor(SPEC.action.lower), torch.tensor(SPEC.action.upper)


@pytest.fixture(params=CASES, ids=name_of)
def policy(request: pytest.FixtureRequest) -> Policy:
    return drawn_policy(request.param)


def a_gaussian(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = 0.5 * torch.randn(2, generator=generator, dtype=torch.float64)
    root = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    return mean, torch.linalg.cholesky(root @ root.mT + 0.1 * torch.eye(2))


def test_the_unsquashed_density_is_scipys() -> None:
    mean, factor = a_gaussian(0)
    points = torch.randn(50, 2, dtype=torch.float64)
    expected = multivariate_normal(mean.numpy(), (factor @ factor.mT).numpy())
    ours = ActionDistribution(mean, factor)
    np.testing.assert_allclose(ours.log_prob(points).numpy(), expected.logpdf(points.numpy()), rtol=1e-10)
    assert float(ours.entropy()) == pytest.approx(expected.entropy())


def test_the_squashed_density_is_torchs() -> None:
    mean, factor = a_gaussian(1)
    lower, upper = LOWER.double(), UPPER.double()
    ours = ActionDistribution(mean, factor, (lower, upper))
    base = torch.distributions.MultivariateNormal(mean, scale_tril=factor)
    to_limits = AffineTransform(0.5 * (lower + upper), 0.5 * (upper - lower))
    theirs = TransformedDistribution(base, [TanhTransform(), to_limits])
    torch.manual_seed(0)
    points = theirs.sample((100,))
    torch.testing.assert_close(ours.log_prob(points), theirs.log_prob(points))
    torch.manual_seed(5)
    sample, log_prob = ours.rsample_with_log_prob()
    torch.testing.assert_close(log_prob, theirs.log_prob(sample))
    # The limits themselves, where the formula has no value.
    assert torch.isfinite(ours.log_prob(torch.stack([lower, upper]))).all()
    with pytest.raises(NotImplementedError, match="no closed form"):
        ours.entropy()


@pytest.mark.parametrize("limits", [None, (LOWER.double(), UPPER.double())])
def test_the_divergence_is_what_samples_say(limits: tuple[torch.Tensor, torch.Tensor] | None) -> None:
    first, second = (ActionDistribution(*a_gaussian(seed), limits) for seed in (2, 3))
    torch.manual_seed(0)
    samples = first.sample((200_000,))
    ratios = first.log_prob(samples) - second.log_prob(samples)
    error = float(ratios.std()) / math.sqrt(len(ratios))
    assert float(kl_divergence(first, second)) == pytest.approx(float(ratios.mean()), abs=4.0 * error)
    other = ActionDistribution(*a_gaussian(3), None if limits else (LOWER, UPPER))
    with pytest.raises(NotImplementedError, match="same limits"):
        kl_divergence(first, other)


def test_modes_and_squashed_samples_keep_the_limits(policy: Policy) -> None:
    actions = [policy.mode(states(500), STEP)]
    if policy.squash:
        actions.append(policy.act(states(500), STEP).sample())
    for values in actions:
        assert values.shape == (500, 2)
        assert (values >= LOWER - 1e-5).all() and (values <= UPPER + 1e-5).all()


def test_densities_integrate_to_one(policy: Policy) -> None:
    # Points crowd towards the limits of a squashed policy, where its density is steep.
    axis = torch.linspace(-15.0, 15.0, 601, dtype=torch.float64)
    axes = [axis, axis]
    if policy.squash:
        axes = [
            low + (high - low) * torch.sigmoid(axis[1:-1])
            for low, high in zip(SPEC.action.lower, SPEC.action.upper, strict=True)
        ]
    cells = torch.outer(*(torch.gradient(values)[0] for values in axes)).flatten()
    points = torch.cartesian_prod(*axes).float()
    with torch.no_grad():
        density = policy.act(states(1), STEP).log_prob(points).exp()
    assert float((density * cells).sum()) == pytest.approx(1.0, abs=0.02)


def test_any_leading_shape_is_a_batch(policy: Policy) -> None:
    batch = states(6).reshape(2, 3, 4)
    together = policy.act(batch, STEP)
    assert together.batch_shape == (2, 3) and together.sample((7,)).shape == (7, 2, 3, 2)
    alone = torch.stack([policy.act(state, STEP).gaussian.mean for state in batch.reshape(6, 4)])
    torch.testing.assert_close(together.gaussian.mean, alone.reshape(2, 3, 2))


def test_samples_have_gradients_in_every_weight_that_is_used(policy: Policy) -> None:
    actions = policy.act(states(5), torch.tensor([0, 1, 2, 3, 4]))
    if actions.has_rsample:
        actions.rsample().square().sum().backward()
    else:
        actions.log_prob(actions.sample()).sum().backward()
    for name, weights in policy.named_parameters():
        assert weights.grad is not None and bool(weights.grad.abs().sum() > 0.0), name


def test_whole_turns_change_nothing(policy: Policy) -> None:
    turned = states(20).clone()
    turned[:, 1] += 2.0 * math.pi
    torch.testing.assert_close(policy.mode(turned, STEP), policy.mode(states(20), STEP), atol=1e-4, rtol=1e-4)
    moved = states(20) + torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert not torch.allclose(policy.mode(moved, STEP), policy.mode(states(20), STEP))


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_not_observed_has_no_effect(kind: str) -> None:
    policy = drawn_policy((kind, {"observed": ["angle"]}))
    assert policy.observation_size == 2
    hidden = states(20) + torch.tensor([1.0, 0.0, -2.0, 3.0])
    assert torch.equal(policy.mode(hidden), policy.mode(states(20)))
    assert not torch.allclose(policy.mode(hidden + 1.0), policy.mode(hidden))
    with pytest.raises(ConfigurationError, match=r"'observed': got 'z', expected some of x, angle"):
        make_policy(kind, {"observed": ["x", "z"]}, SPEC, 0)


def test_linearised_policies_are_tangents(policy: Policy) -> None:
    policy.double()
    state = states(4).double()
    step = torch.tensor([0, 1, 2, 3])
    local = policy.linearise(state, step)
    assert local.gain.shape == (4, 2, 4) and local.covariance.shape == (4, 2, 2)

    def action(at: torch.Tensor) -> torch.Tensor:
        mean, _ = policy.gaussian(at, step)
        return (policy.squashed(mean) if policy.squash else mean).detach()

    torch.testing.assert_close(local.action, action(state))
    for index in range(4):
        aside = torch.zeros(4, dtype=torch.float64)
        aside[index] = 1e-5
        slope = (action(state + aside) - action(state - aside)) / 2e-5
        torch.testing.assert_close(local.gain[..., index], slope, atol=1e-6, rtol=1e-6)
    if not policy.squash:
        torch.testing.assert_close(local.covariance, policy.act(state, step).gaussian.covariance_matrix)


def test_the_noise_of_a_linearised_squashed_policy_is_that_of_small_samples() -> None:
    policy = drawn_policy(("linear", {"squash": True, "covariance": "full"}))
    policy.set_covariance(1e-4 * torch.tensor([[1.0, 0.4], [0.4, 0.5]]))
    torch.manual_seed(0)
    samples = policy.act(states(1)[0]).sample((100_000,))
    expected = policy.linearise(states(1)[0]).covariance
    torch.testing.assert_close(samples.T.cov(), expected, rtol=0.05, atol=2e-6)


def test_the_fast_form_is_the_policy(policy: Policy) -> None:
    fast = policy.fast()
    assert fast.horizon == policy.horizon
    for step, state in enumerate(states(5)):
        expected = policy.mode(state, step).detach().numpy()
        np.testing.assert_allclose(fast.action(state.double().numpy(), step), expected, atol=2e-5, rtol=2e-5)
        local = policy.linearise(state, step)
        action, gain = fast.linearised(state.double().numpy(), step)
        np.testing.assert_allclose(action, local.action.numpy(), atol=2e-5, rtol=2e-5)
        np.testing.assert_allclose(gain, local.gain.numpy(), atol=5e-5, rtol=5e-5)
    # It is a copy.
    before = fast.action(np.ones(4), 0)
    with torch.no_grad():
        for weights in policy.parameters():
            weights.add_(1.0)
    np.testing.assert_array_equal(fast.action(np.ones(4), 0), before)


def test_kinds_without_a_fast_form_of_their_own_go_through_torch() -> None:
    policy = drawn_policy(CASES[0])
    fast = Policy.fast(policy)
    state = states(1)[0]
    np.testing.assert_allclose(fast.action(state.double().numpy(), 0), policy.mode(state).detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(fast.linearised(state.double().numpy(), 0)[1], policy.linearise(state).gain, rtol=1e-6)
    assert all(weights.requires_grad for weights in policy.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_normalisation_centres_and_scales_what_is_linear(kind: str) -> None:
    policy = drawn_policy((kind, {}))
    assert isinstance(policy, NetworkPolicy)
    seen = states(400) * torch.tensor([1.0, 1.0, 30.0, 0.1]) + torch.tensor([5.0, 0.0, 0.0, -1.0])
    angles_before = policy.observation_scale[3:].clone()
    policy.normalise(seen)
    observed = policy.observe(seen)[:, :3]
    torch.testing.assert_close(observed.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(observed.std(dim=0), torch.ones(3), atol=1e-4, rtol=0.0)
    assert torch.equal(policy.observation_scale[3:], angles_before)
    policy.normalise(torch.zeros(3, 4))
    assert torch.isfinite(policy.mode(torch.zeros(4))).all()
    with pytest.raises(PolicyError, match="got 1, expected at least 2"):
        policy.normalise(seen[:1])


def test_a_given_covariance_is_that_of_the_actions() -> None:
    wanted = torch.tensor([[0.5, 0.3], [0.3, 0.4]])
    full, diagonal = (drawn_policy(("linear", {"covariance": name})) for name in ("full", "diagonal"))
    for policy, expected in ((full, wanted), (diagonal, wanted.diag().diag())):
        policy.set_covariance(wanted)
        torch.testing.assert_close(policy.act(states(3)).gaussian.covariance_matrix, expected.expand(3, 2, 2))
    with pytest.raises(PolicyError, match="expected a positive definite matrix"):
        full.set_covariance(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(PolicyError, match="expected 'diagonal' or 'full'"):
        drawn_policy(("linear", {"covariance": "state"})).set_covariance(wanted)


def test_centres_are_spread_over_the_states() -> None:
    policy = drawn_policy(("rbf", {"basis_functions": 8}))
    assert isinstance(policy, RbfPolicy)
    corners = torch.cartesian_prod(*[torch.tensor([-10.0, 10.0])] * 3)
    crowd = torch.cat([corners[:, :1], torch.zeros(8, 1), corners[:, 1:]], dim=1)
    seen = torch.cat([0.1 * states(100), crowd])
    policy.place_centres(seen)
    found = {tuple(row) for row in policy.centres.detach().numpy().round(3).tolist()}
    corners_seen = {tuple(row) for row in policy.observe(crowd).numpy().round(3).tolist()}
    assert len(found & corners_seen) == 7  # the first lies in the middle
    with pytest.raises(PolicyError, match="got 5, expected at least 8"):
        policy.place_centres(seen[:5])


def controller(seed: int = 0, steps: int = 6) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    roots = random.normal(size=(steps, 2, 2))
    return {
        "actions": random.normal(size=(steps, 2)),
        "gains": random.normal(size=(steps, 2, 4)),
        "states": random.normal(size=(steps, 4)) + np.array([0.0, 3.0, 0.0, 0.0]),
        "covariances": roots @ roots.swapaxes(1, 2),
    }


def test_a_time_varying_policy_is_its_formula() -> None:
    arrays = controller()
    policy = TimeVaryingLinearPolicy.from_arrays(SPEC, **arrays)
    x = np.array([0.3, -3.0, 0.2, -0.4])
    for step in range(6):
        error = x - arrays["states"][step]
        error[1] = math.remainder(error[1], 2.0 * math.pi)
        mean = arrays["actions"][step] + arrays["gains"][step] @ error
        density = multivariate_normal(mean, arrays["covariances"][step])
        action = np.array([0.1, 0.2])
        found = policy.act(torch.tensor(x).float(), step).log_prob(torch.tensor(action).float())
        assert found.item() == pytest.approx(density.logpdf(action), rel=1e-3, abs=1e-3)
        clipped = np.clip(mean, SPEC.action.lower, SPEC.action.upper)
        np.testing.assert_allclose(policy.fast().action(x, step), clipped, atol=1e-5)
    for step in (None, -1, 6):
        with pytest.raises(PolicyError, match="expected"):
            policy.mode(states(1), step)


def test_a_time_varying_policy_without_noise_has_a_mode_and_no_density() -> None:
    arrays = controller()
    singular = arrays["covariances"].copy()
    singular[2] = np.outer([1.0, 2.0], [1.0, 2.0])
    policy = TimeVaryingLinearPolicy.from_arrays(SPEC, **{**arrays, "covariances": singular})
    torch.testing.assert_close(
        policy.linearise(states(1)[0], 2).covariance, torch.tensor([[1.0, 2.0], [2.0, 4.0]]), atol=1e-5, rtol=1e-5
    )
    policy.act(states(1), 1)
    silent = TimeVaryingLinearPolicy.from_arrays(SPEC, **{**arrays, "covariances": None})
    silent.mode(states(1), 0)
    for each in (policy, silent):
        with pytest.raises(PolicyError, match="no density at step 2"):
            each.act(states(1), 2)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gains", lambda a: a[:, :, :3], r"controller gains: got shape \[6, 2, 3\], expected \[6, 2, 4\]"),
        ("states", lambda a: a[:5], r"controller states: got shape \[5, 4\], expected \[6, 4\]"),
        ("actions", lambda a: np.where(np.arange(12).reshape(6, 2) == 5, np.nan, a), "actions: step 2 .* not finite"),
        ("covariances", lambda a: -a, r"covariances: step 0 .* positive semi-definite"),
        ("covariances", lambda a: a + np.array([[0.0, 1.0], [0.0, 0.0]]), "covariances: step 0 .* symmetric"),
    ],
)
def test_arrays_that_are_no_controller_are_refused(name: str, change, message: str) -> None:
    arrays = controller()
    with pytest.raises(PolicyError, match=message):
        TimeVaryingLinearPolicy.from_arrays(SPEC, **{**arrays, name: change(arrays[name])})


def test_seeds_draw_weights_and_leave_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, same, other = (make_policy("mlp", {}, SPEC, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.mode(states(1)), other.mode(states(1)))


def test_every_kind_has_a_preset_of_its_defaults() -> None:
    assert sorted(file.stem for file in PRESETS.glob("*.yaml")) == POLICIES.names()
    for kind in POLICIES.names():
        preset = load_preset(PRESETS / f"{kind}.yaml", "policy")
        assert preset["kind"] == kind
        assert POLICIES.configure(kind, preset) == POLICIES.get(kind).configuration()
