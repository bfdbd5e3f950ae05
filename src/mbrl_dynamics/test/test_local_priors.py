# SPDX-License-Identifier: Apache-2.0
"""Mixtures, normal-inverse-Wishart posteriors against integrals and samples, and what priors are worth on a robot."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from problems import SPEC, sample

from mbrl_core.robot_file import load_robot
from mbrl_core.specs import state_difference
from mbrl_dynamics.gaussian_mixture import GaussianMixture, MixtureConfig, fit_mixture
from mbrl_dynamics.gaussian_prior import EnsemblePrior, MixturePrior, NormalInverseWishart, PriorConfig, condition
from mbrl_dynamics.local_fit import fit_local_dynamics, rollout_transitions
from mbrl_dynamics.local_linear import LocalDynamics
from mbrl_dynamics.registry import make_model

torch.set_num_threads(1)
ROBOTS = Path(__file__).parents[3] / "config" / "robots"


def belief(seed: int, size: int) -> NormalInverseWishart:
    random = np.random.default_rng(seed)
    root = random.normal(size=(size, size))
    return NormalInverseWishart(random.normal(size=size), root @ root.T, 1.7, 2.3)


def test_posterior_of_one_number_is_that_of_integration() -> None:
    prior, points = belief(0, 1), np.array([[0.4], [1.9], [-0.3]])
    # Degrees of freedom n0 + d + 1, in one dimension an inverse-gamma distribution.
    freedom = prior.scale_count + 2.0
    mean, variance = np.meshgrid(np.linspace(-12.0, 12.0, 801), np.geomspace(1e-3, 1e4, 800), indexing="ij")
    density = scipy.stats.norm.logpdf(mean, prior.mean[0], np.sqrt(variance / prior.mean_count))
    density += scipy.stats.invgamma.logpdf(variance, freedom / 2.0, scale=prior.scale[0, 0] / 2.0)
    for point in points[:, 0]:
        density += scipy.stats.norm.logpdf(point, mean, np.sqrt(variance))
    weight = np.exp(density - density.max()) * variance  # equal steps of its logarithm
    posterior = prior.posterior(points)
    np.testing.assert_allclose(posterior.mean[0], (weight * mean).sum() / weight.sum(), rtol=1e-4)
    np.testing.assert_allclose(posterior.covariance[0, 0], (weight * variance).sum() / weight.sum(), rtol=1e-3)


def test_posterior_is_the_estimate_of_the_paper_and_that_of_one_point_after_the_other() -> None:
    prior, points = belief(1, 4), np.random.default_rng(2).normal(size=(5, 4))
    posterior = prior.posterior(points)
    apart = points.mean(axis=0) - prior.mean
    between = 5 * prior.mean_count / (5 + prior.mean_count) * np.outer(apart, apart)
    expected = (prior.scale + 5 * np.cov(points.T, bias=True) + between) / (5 + prior.scale_count)
    np.testing.assert_allclose(posterior.covariance, expected, rtol=1e-12)
    for point in points:
        prior = prior.posterior(point[None])
    np.testing.assert_allclose(prior.covariance, posterior.covariance, rtol=1e-12)
    np.testing.assert_allclose(prior.mean, posterior.mean, rtol=1e-12)


def test_slopes_are_the_posterior_expectation_of_slopes() -> None:
    size, inputs, count = 5, 3, 100_000
    posterior = belief(3, size).posterior(np.random.default_rng(4).normal(size=(6, size)))
    slope, offset, covariance = condition(posterior.mean, posterior.covariance, inputs)
    drawn = scipy.stats.invwishart.rvs(posterior.scale_count + size + 1, posterior.scale, count, random_state=5)
    slopes = np.linalg.solve(drawn[:, :inputs, :inputs], drawn[:, :inputs, inputs:]).swapaxes(1, 2)
    assert (np.abs(slopes.mean(axis=0) - slope) < 5.0 * slopes.std(axis=0) / np.sqrt(count)).all()
    # And the Gaussian that is conditioned is the expectation of the covariance.
    joint = drawn.mean(axis=0)
    assert (np.abs(joint - posterior.covariance) < 5.0 * drawn.std(axis=0) / np.sqrt(count)).all()
    expected = posterior.covariance[inputs:, inputs:] - slope @ posterior.covariance[:inputs, inputs:]
    np.testing.assert_allclose(covariance, expected, atol=1e-12)
    np.testing.assert_allclose(offset, posterior.mean[inputs:] - slope @ posterior.mean[:inputs], atol=1e-12)


def test_a_joint_covariance_that_is_none_names_its_step() -> None:
    covariances = np.repeat(np.eye(3)[None], 4, axis=0)
    covariances[2, 0, 1] = covariances[2, 1, 0] = 1.5
    with pytest.raises(ValueError, match=r"joint covariance of step 2 is not positive definite: .* -0\.5"):
        condition(np.zeros((4, 3)), covariances, 2)


def clusters(seed: int, count: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    which = random.choice(3, count, p=[0.5, 0.3, 0.2])
    roots = np.array([[[1.0, 0.0], [0.8, 0.3]], [[0.2, 0.0], [0.0, 0.2]], [[0.5, 0.4], [0.0, 0.5]]])
    means = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 5.0]])
    return means[which] + np.einsum("nij,nj->ni", roots[which], random.normal(size=(count, 2)))


def test_mixture_finds_clusters_and_how_many() -> None:
    points = clusters(0, 3000)
    fitted = fit_mixture(points, 1, MixtureConfig(components=3))
    order = np.argsort(-fitted.weights)
    np.testing.assert_allclose(fitted.weights[order], [0.5, 0.3, 0.2], atol=0.04)
    np.testing.assert_allclose(fitted.means[order], [[0.0, 0.0], [4.0, 0.0], [0.0, 5.0]], atol=0.15)
    np.testing.assert_allclose(fitted.covariances[order[0]], [[1.0, 0.8], [0.8, 0.73]], atol=0.15)
    np.testing.assert_allclose(fitted.responsibilities(points).sum(axis=1), 1.0)
    by_criterion = fit_mixture(points, 1)
    assert by_criterion.components in (3, 4) and by_criterion.bic(points) < fit_mixture(
        points, 1, MixtureConfig(2)
    ).bic(points)
    assert fit_mixture(points[:1500] * 0.0 + np.random.default_rng(0).normal(size=(1500, 2)), 1).components == 1


def test_one_component_is_the_moments_and_the_density_is_scipys() -> None:
    points = clusters(1, 500)
    one = fit_mixture(points, 0, MixtureConfig(components=1))
    np.testing.assert_allclose(one.means[0], points.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(one.covariances[0], np.cov(points.T, bias=True), rtol=1e-4)
    three = fit_mixture(points, 0, MixtureConfig(components=3))
    expected = sum(
        weight * scipy.stats.multivariate_normal.pdf(points, mean, covariance)
        for weight, mean, covariance in zip(three.weights, three.means, three.covariances, strict=True)
    )
    np.testing.assert_allclose(three.log_density(points), np.log(expected), rtol=1e-9, atol=1e-9)


def test_more_iterations_are_never_less_likely_and_the_same_seed_gives_the_same_mixture() -> None:
    points = clusters(2, 400)
    fits = [
        fit_mixture(points, 3, MixtureConfig(components=4, iterations=count, tolerance=0.0)) for count in range(1, 30)
    ]
    likelihoods = np.array([fit.log_density(points).mean() for fit in fits])
    assert (np.diff(likelihoods) > -1e-6).all() and likelihoods[-1] > likelihoods[0] + 1e-3
    again = fit_mixture(points, 3, MixtureConfig(components=4, iterations=29, tolerance=0.0))
    assert again.means.tobytes() == fits[-1].means.tobytes()


def test_a_cluster_across_the_cut_of_an_angle_is_one() -> None:
    random = np.random.default_rng(3)
    angle = np.pi + 0.3 * random.normal(size=1000)
    points = np.stack([angle, 2.0 * angle + 0.1 * random.normal(size=1000)], axis=1)
    points[:, 0] = (points[:, 0] + np.pi) % (2.0 * np.pi) - np.pi
    fitted = fit_mixture(points, 0, periods=np.array([2.0 * np.pi, np.inf]))
    assert fitted.components == 1
    covariance = fitted.covariances[0]
    assert covariance[0, 0] == pytest.approx(0.09, rel=0.2)
    assert covariance[0, 1] / covariance[0, 0] == pytest.approx(2.0, rel=0.02)


def test_points_that_are_no_mixture_are_refused() -> None:
    for points, configuration, expected in (
        (np.zeros((5, 2)), MixtureConfig(components=2), r"got 5 points of 2 numbers, expected at least 6 for 2 comp"),
        (np.zeros(5), None, r"got points \(5,\), expected finite numbers \[N, d\]"),
        (np.full((9, 2), np.nan), None, "expected finite numbers"),
    ):
        with pytest.raises(ValueError, match=expected):
            fit_mixture(points, 0, configuration)
    with pytest.raises(ValueError, match=r"got periods \[0.0, 1.0\], expected 2 positive numbers or inf"):
        fit_mixture(np.zeros((9, 2)), 0, periods=np.array([0.0, 1.0]))
    # The same point again and again is a mixture of one, and no division by zero.
    assert fit_mixture(np.ones((50, 2)), 0, MixtureConfig(components=3)).components == 1


def linear_points(seed: int, steps: int, count: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """[x; u; x'] [steps, count, 3] of x' = 0.7 x + 0.4 u + 0.2 with little noise, and the slopes."""
    random = np.random.default_rng(seed)
    inputs = spread * random.normal(size=(steps, count, 2)) + random.normal(size=(steps, 1, 2))
    slopes = np.array([0.7, 0.4])
    following = inputs @ slopes + 0.2 + 1e-3 * random.normal(size=(steps, count))
    return np.concatenate([inputs, following[..., None]], axis=-1), slopes


@pytest.mark.parametrize("own_spread", [False, True])
def test_a_mixture_of_linear_transitions_says_how_they_go_on(own_spread: bool) -> None:
    data, slopes = linear_points(0, 1, 2000)
    transitions = rollout_transitions(data[0, :, [0, 2]].T[..., None], data[0, :, None, 1:2])
    configuration = PriorConfig(own_spread=own_spread, least_spread=1e-6)
    prior = MixturePrior.fit(transitions, np.array([False]), 0, configuration, MixtureConfig(components=1))
    points, _ = linear_points(1, 4, 2, spread=0.3)
    beliefs = prior.beliefs(points)
    slope, offset, noise = condition(beliefs.mean, beliefs.covariance, 2)
    np.testing.assert_allclose(slope[:, 0], np.broadcast_to(slopes, (4, 2)), atol=5e-3)
    np.testing.assert_allclose(offset, 0.2, atol=5e-3)
    assert (np.sqrt(noise) < 5e-3).all()
    everywhere = np.broadcast_to(data[0, :, :2].var(axis=0), (4, 2))
    variance = points[..., :2].var(axis=1) if own_spread else everywhere
    np.testing.assert_allclose(np.einsum("hii->hi", beliefs.covariance)[:, :2], variance, rtol=1e-3)


def test_a_mixture_counts_angles_as_the_points_do() -> None:
    transitions = sample(1500, 4)
    prior = MixturePrior.fit(transitions, SPEC.state.angular, 0, mixture=MixtureConfig(components=6))
    change = state_difference(transitions.next_state, transitions.state, SPEC.state.angular)
    points = np.concatenate([transitions.state, transitions.action, transitions.state + change], axis=1)[None, :20]
    turns = np.zeros(9)
    turns[[1, 6]] = 6.0 * np.pi
    here, there = prior.beliefs(points), prior.beliefs(points + turns)
    np.testing.assert_allclose(there.mean, here.mean + turns, atol=1e-9)
    np.testing.assert_allclose(there.scale, here.scale, atol=1e-9)


def test_an_ensemble_prior_has_the_moments_of_its_members() -> None:
    model = make_model("ensemble", {"members": 3, "hidden_size": 16, "first_steps": 60}, SPEC, 0)
    model.fit(sample(200, 5), 0)
    random = np.random.default_rng(6)
    state = random.normal(size=(1, 8, 4))
    points = np.concatenate([state, random.uniform(-1.0, 1.0, (1, 8, 1)), state], axis=-1)
    beliefs = EnsemblePrior(model, PriorConfig(scale_count=2.0)).beliefs(points)
    inputs = points[0, :, :5]
    state_mean, action_mean = torch.tensor(inputs.mean(axis=0)[None], dtype=torch.float32).split([4, 1], dim=-1)
    slopes = torch.cat(model.jacobians(state_mean, action_mean), dim=-1)[:, 0].double().numpy()
    with torch.no_grad():
        said = model.predict(state_mean, action_mean)
    drawn = inputs.mean(axis=0) + inputs.std(axis=0) * random.normal(size=(200_000, 5))
    member = random.integers(0, 3, len(drawn))
    deviation = said.variance[:, 0].sqrt().double().numpy()
    following = said.mean[:, 0].double().numpy()[member] + deviation[member] * random.normal(size=(len(drawn), 4))
    following += np.einsum("npz,nz->np", slopes[member], drawn - inputs.mean(axis=0))
    joint = np.concatenate([drawn, following], axis=1)
    scale = joint.std(axis=0)
    assert (np.abs(beliefs.mean[0] - joint.mean(axis=0)) < 0.02 * scale).all()
    assert (np.abs(beliefs.covariance[0] - np.cov(joint.T)) < 0.02 * np.outer(scale, scale)).all()
    assert beliefs.scale_count == 2.0
    with pytest.raises(
        ValueError, match=r"got points \(1, 8, 7\), expected \[H, R, 9\] of the robot 'cart_with_pointer'"
    ):
        EnsemblePrior(model).beliefs(points[..., :7])


def cartpole(controller: int, count: int, horizon: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Rollouts of MuJoCo's cart-pole, pushed to and fro at a rhythm of the controller's own, with noise."""
    path = ROBOTS / "cartpole.yaml"
    truth = make_model("mujoco", {"robot_file": str(path), "threads": 1}, load_robot(path).spec, 0)
    random = np.random.default_rng(controller)
    push = random.choice([-1.0, 1.0]) * np.cos(random.uniform(0.2, 0.5) * np.arange(horizon))
    actions = push[None, :, None] + 0.15 * random.normal(size=(count, horizon, 1))
    states = np.empty((count, horizon + 1, 4))
    states[:, 0] = 0.1 * random.normal(size=(count, 4))
    for step in range(horizon):
        states[:, step + 1] = (
            truth.predict(torch.tensor(states[:, step]), torch.tensor(actions[:, step])).mean[0].numpy()
        )
    return states, actions


def slope_error(local: LocalDynamics, states: np.ndarray, actions: np.ndarray) -> float:
    """Of [A B] against MuJoCo's, in units of how much states and actions vary, relative to the change's slopes."""
    path = ROBOTS / "cartpole.yaml"
    truth = make_model("mujoco", {"robot_file": str(path), "threads": 1}, load_robot(path).spec, 0)
    inputs = np.concatenate([states[:, :-1], actions], axis=-1)
    middle = torch.tensor(inputs.mean(axis=0))
    true = torch.cat(truth.jacobians(middle[:, :4], middle[:, 4:]), dim=-1)[0].numpy()
    unit = np.sqrt(inputs.var(axis=0).mean(axis=0))
    change = (true - np.eye(4, 5)) * unit
    rows = np.linalg.norm(change, axis=(0, 2))[:, None]
    found = np.concatenate([local.matrix, local.control], axis=-1)
    return float(np.linalg.norm((found - true) * unit / rows) / np.linalg.norm(change / rows))


def test_with_a_prior_few_rollouts_suffice() -> None:
    angular = np.array([False, True, False, False])
    regression, by_mixture, by_ensemble = [], [], []
    for seed in range(3):
        earlier = [cartpole(100 * (seed + 1) + index, 5) for index in range(8)]
        data = rollout_transitions(*(np.concatenate(parts) for parts in zip(*earlier, strict=True)))
        model = make_model(
            "ensemble",
            {"members": 3, "hidden_size": 64, "first_steps": 600},
            load_robot(ROBOTS / "cartpole.yaml").spec,
            seed,
        )
        model.fit(data, seed)
        states, actions = cartpole(seed, 100)
        with pytest.raises(ValueError, match="got 4 rollouts, expected at least 6"):
            fit_local_dynamics(states[:4], actions[:4], angular)
        regression.append(slope_error(fit_local_dynamics(states[:6], actions[:6], angular), states, actions))
        for prior, errors in ((MixturePrior.fit(data, angular, seed), by_mixture), (EnsemblePrior(model), by_ensemble)):
            local = fit_local_dynamics(states[:4], actions[:4], angular, prior)
            errors.append(slope_error(local, states, actions))
    # Four rollouts with a prior against six, the least that there can be, without.
    assert np.median(by_mixture) < 0.2 and np.median(by_mixture) < 0.5 * np.median(regression)
    assert np.median(by_ensemble) < 0.3 and np.median(by_ensemble) < 0.7 * np.median(regression)


@pytest.mark.parametrize("count", [1, 2])
def test_known_dynamics_as_a_prior_leave_little_to_learn(count: int) -> None:
    path = ROBOTS / "cartpole.yaml"
    truth = make_model("mujoco", {"robot_file": str(path), "threads": 1}, load_robot(path).spec, 0)
    states, actions = cartpole(7, 100)
    local = fit_local_dynamics(
        states[:count], actions[:count], np.array([False, True, False, False]), EnsemblePrior(truth)
    )
    assert slope_error(local, states, actions) < 0.1


def test_a_prior_that_diverges_names_the_step() -> None:
    path = ROBOTS / "cartpole.yaml"
    truth = make_model("mujoco", {"robot_file": str(path), "threads": 1}, load_robot(path).spec, 0)
    states, actions = cartpole(8, 3)
    states[:, 4, 3] = 1e12  # rad/s: MuJoCo gives up
    with pytest.raises(ValueError, match="the prior has non-finite numbers at step 4"):
        fit_local_dynamics(states, actions, prior=EnsemblePrior(truth))


def test_priors_that_are_worth_nothing_are_refused() -> None:
    mixture = GaussianMixture(np.ones(1), np.zeros((1, 9)), np.eye(9)[None], np.full(9, np.inf))
    for configuration, expected in (
        (PriorConfig(scale_count=0.0), "got scale_count 0.0, expected a finite number above 0"),
        (PriorConfig(mean_count=-1.0), "got mean_count -1.0, expected a finite number of at least 0"),
        (PriorConfig(least_spread=np.inf), "got least_spread inf"),
    ):
        with pytest.raises(ValueError, match=expected):
            MixturePrior(mixture, 4, configuration)
    with pytest.raises(ValueError, match=r"got angular \[True\], expected 4 of them"):
        MixturePrior.fit(sample(100, 0), np.array([True]), 0)
    with pytest.raises(ValueError, match="got 9 coordinates for 5 states"):
        MixturePrior(mixture, 5)
    with pytest.raises(ValueError, match=r"got points \(2, 3, 8\), expected \[H, R, 9\]"):
        MixturePrior(mixture, 4).beliefs(np.zeros((2, 3, 8)))
