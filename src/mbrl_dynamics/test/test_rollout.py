# SPDX-License-Identifier: Apache-2.0
"""The rollout engine against a plain, slow one, and against what its propagations mean."""

import numpy as np
import pytest
import torch
from problems import ROBOT_FILE, SPEC, sample, spec_of

from mbrl_dynamics.model import DynamicsModel, GaussianPrediction
from mbrl_dynamics.registry import DYNAMICS, make_model
from mbrl_dynamics.rollout import PROPAGATIONS, differentiable_rollout, rollout

torch.set_num_threads(1)
QUICK = {"ensemble": {"hidden_size": 32, "first_steps": 100}, "linear": {}, "mujoco": {"robot_file": str(ROBOT_FILE)}}


class KnownMember(DynamicsModel):
    """Member m adds m + 1 to each state, with a given noise: trajectories tell which members they met."""

    kind = "known"

    def __init__(self, members: int, deviation: float) -> None:
        super().__init__(None, SPEC, members)
        self.deviation = deviation

    def predict(self, state, action):
        if state.dim() == 2:
            state = state.expand(self.members, *state.shape)
        mean = state + torch.arange(1.0, self.members + 1).view(-1, 1, 1)
        return GaussianPrediction(mean, torch.full_like(mean, self.deviation**2))

    def fit(self, transitions, seed, keep_going=None):
        raise NotImplementedError

    def state_arrays(self):
        return {}

    def load_arrays(self, arrays):
        raise NotImplementedError


def plain(model, state, actions, particles, propagation, generator):
    """One trajectory, one step at a time, through `predict`: the definition, with the engine's draws."""
    count, horizon, _ = actions.shape
    if propagation == "mean":
        particles = 1
    noise = torch.zeros(horizon, particles, len(state))
    if propagation != "mean":
        noise = torch.randn(horizon, particles, len(state), generator=generator)
    places = torch.arange(particles).expand(horizon, -1).tolist()
    if propagation == "ts1" and model.members > 1:
        orders = torch.rand(horizon, particles, generator=generator).argsort(dim=1).tolist()
        places = [[order.index(particle) for particle in range(particles)] for order in orders]
    result = torch.empty(count, particles, horizon + 1, len(state))
    for index in range(count):
        result[index, :, 0] = state
        for step in range(horizon):
            moments = []
            for particle in range(particles):
                prediction = model.predict(result[index, particle, step][None], actions[index, step][None])
                mean, variance = prediction.mean[:, 0], prediction.variance[:, 0]
                member = places[step][particle] // max(particles // model.members, 1)
                moments.append(
                    (mean[member], variance[member]) if propagation in ("ts1", "tsinf") else mixture(mean, variance)
                )
            if propagation == "mm":
                together = mixture(*(torch.stack(values) for values in zip(*moments, strict=True)))
                moments = [together] * particles
            for particle, (mean, variance) in enumerate(moments):
                draw = noise[step, places[step][particle]]
                result[index, particle, step + 1] = mean if propagation == "mean" else mean + variance.sqrt() * draw
    return result


def mixture(mean, variance):
    """Mean and variance of a mixture of equal parts, whose means and variances are rows."""
    mean, variance = mean.double(), variance.double()
    centre = mean.mean(dim=0)
    return centre.float(), ((variance + mean**2).mean(dim=0) - centre**2).clamp(min=0.0).float()


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("kind", DYNAMICS.names())
@torch.no_grad()
def test_engine_equals_the_plain_rollout(kind, propagation):
    model = make_model(kind, QUICK[kind], spec_of(kind), 0)
    with torch.enable_grad():
        model.fit(sample(200, 1), 0)
    actions = 2.0 * torch.rand(4, 6, 1, generator=torch.Generator().manual_seed(1)) - 1.0
    state = torch.tensor([0.1, 3.0, -0.2, 0.4])
    fast = rollout(model, state, actions, 10, propagation, torch.Generator().manual_seed(7)).states
    slow = plain(model, state, actions, 10, propagation, torch.Generator().manual_seed(7))
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("kind", DYNAMICS.names())
def test_differentiable_rollout_is_the_same_and_its_gradient_that_of_differences(kind, propagation):
    model = make_model(kind, QUICK[kind], spec_of(kind), 0)
    model.fit(sample(200, 1), 0)
    actions = 2.0 * torch.rand(3, 5, 1, generator=torch.Generator().manual_seed(1)) - 1.0
    state = torch.tensor([0.1, 3.0, -0.2, 0.4])

    def value(values: torch.Tensor) -> torch.Tensor:
        """A smooth function of all states, one number a sequence."""
        random = torch.Generator().manual_seed(7)
        return differentiable_rollout(model, state, values, 10, propagation, random).states.sin().mean(dim=(1, 2, 3))

    engine = rollout(model, state, actions, 10, propagation, torch.Generator().manual_seed(7)).states
    states = differentiable_rollout(model, state, actions, 10, propagation, torch.Generator().manual_seed(7)).states
    torch.testing.assert_close(states.detach(), engine, atol=2e-5, rtol=1e-4)
    variables = actions.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(variables).sum(), variables)
    assert (gradient != 0.0).all()
    step = 1e-2
    with torch.no_grad():
        for index in range(actions.shape[1]):
            shift = torch.zeros_like(actions)
            shift[:, index] = step
            difference = (value(actions + shift) - value(actions - shift)) / (2.0 * step)
            torch.testing.assert_close(gradient[:, index, 0], difference, atol=2e-4, rtol=2e-2)


@pytest.mark.parametrize("kind", DYNAMICS.names())
@torch.no_grad()
def test_stepper_equals_predict(kind):
    model = make_model(kind, QUICK[kind], spec_of(kind), 0)
    with torch.enable_grad():
        model.fit(sample(200, 1), 0)
    data = sample(model.members * 7, 3)
    state = torch.as_tensor(data.state).float().view(model.members, 7, 4)
    action = torch.as_tensor(data.action).float().view(model.members, 7, 1)
    stepper = model.stepper(7)
    for _ in range(2):  # the second time into used buffers
        mean, deviation = stepper.step(state.transpose(1, 2), action.transpose(1, 2))  # rows last
        prediction = model.predict(state, action)
        torch.testing.assert_close(mean.transpose(1, 2), prediction.mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(deviation.transpose(1, 2), prediction.variance.sqrt(), atol=1e-6, rtol=1e-4)


def test_a_fit_reaches_steppers_made_afterwards():
    model = make_model("ensemble", QUICK["ensemble"], SPEC, 0)
    state, actions = torch.zeros(4), torch.ones(3, 5, 1)
    model.fit(sample(100, 1), 0)
    first = rollout(model, state, actions, 5, "mean", torch.Generator()).states
    model.fit(sample(200, 2), 0)
    assert not torch.equal(rollout(model, state, actions, 5, "mean", torch.Generator()).states, first)


@torch.no_grad()
def test_batches_of_all_sizes_do_not_fill_the_memory():
    model = make_model("ensemble", QUICK["ensemble"], SPEC, 0)
    first = model.stepper(1)
    assert model.stepper(1) is first
    for rows in range(2, 100):
        model.stepper(rows)
    assert len(model._steppers) < 20
    assert model.stepper(1) is not first and model.stepper(99) is model.stepper(99)


def test_tsinf_keeps_members_and_ts1_balances_them():
    model = KnownMember(members=3, deviation=0.0)
    actions = torch.zeros(2, 40, 1)
    kept = rollout(model, torch.zeros(4), actions, 6, "tsinf", torch.Generator().manual_seed(0)).states
    steps = kept.diff(dim=2)[..., 0]
    assert torch.equal(steps, steps[:, :, :1].expand_as(steps))
    assert steps[0, :, 0].tolist() == [1, 1, 2, 2, 3, 3]
    mixed = rollout(model, torch.zeros(4), actions, 6, "ts1", torch.Generator().manual_seed(0)).states
    steps = mixed.diff(dim=2)[..., 0]
    assert torch.equal(steps.sort(dim=1).values, torch.tensor([1.0, 1, 2, 2, 3, 3]).view(1, 6, 1).expand_as(steps))
    # Every particle meets every member about equally often: 40 / 3 times, deviation 3.
    for member in (1.0, 2.0, 3.0):
        assert ((steps == member).sum(dim=2) > 3).all()
    mean = rollout(model, torch.zeros(4), actions, 6, "mean", torch.Generator()).states
    assert mean.shape == (2, 1, 41, 4) and torch.allclose(mean[:, 0, -1], torch.tensor(80.0))


def test_noise_has_the_predicted_deviation_and_is_the_same_for_all_sequences():
    model = KnownMember(members=1, deviation=0.3)
    states = rollout(model, torch.zeros(4), torch.zeros(3, 50, 1), 200, "ts1", torch.Generator().manual_seed(0)).states
    noise = states.diff(dim=2) - 1.0
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    assert abs(noise.mean().item()) < 0.005
    torch.testing.assert_close(noise[0], noise[1])


def test_distribution_sampling_and_moment_matching_have_the_moments_of_the_mixture():
    model = KnownMember(members=3, deviation=0.5)
    actions, particles = torch.zeros(1, 3, 1), 30_000
    variance = 0.5**2 + 2.0 / 3.0  # noise, and of the means 1, 2 and 3
    for propagation in ("ds", "mm"):
        random = torch.Generator().manual_seed(0)
        states = rollout(model, torch.zeros(4), actions, particles, propagation, random).states[0]
        for step in range(4):
            assert states[:, step].mean().item() == pytest.approx(2.0 * step, abs=0.02)
            # What was drawn before stays a particle's own; moment matching fits it and draws anew: the same variance.
            torch.testing.assert_close(states[:, step].var(dim=0), torch.full((4,), step * variance), rtol=0.04, atol=0)
    drawn = {}
    for propagation in ("ds", "mm"):
        random = torch.Generator().manual_seed(0)
        drawn[propagation] = rollout(model, torch.zeros(4), actions, 6, propagation, random).states[0, :, :, 0]
    noise = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))[..., 0]
    steps = drawn["ds"].diff(dim=1).T
    torch.testing.assert_close(steps, 2.0 + variance**0.5 * noise)
    # Six particles scatter as they happen to, and that is the variance that moment matching adds.
    scatter = drawn["mm"][:, 1].var(correction=0)
    expected = drawn["mm"][:, 1].mean() + 2.0 + (variance + scatter).sqrt() * noise[1]
    torch.testing.assert_close(drawn["mm"][:, 2], expected)


def test_same_generator_seed_gives_the_same_bytes():
    model = make_model("ensemble", QUICK["ensemble"], SPEC, 0)
    model.fit(sample(100, 1), 0)
    actions = torch.zeros(3, 5, 1)
    first, second, other = (
        rollout(model, torch.zeros(4), actions, 5, "ts1", torch.Generator().manual_seed(seed)).states
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_bad_arguments_are_named():
    model = KnownMember(members=3, deviation=0.1)
    with pytest.raises(ValueError, match="propagation: got 'psychic', expected one of ts1, tsinf, ds, mm, mean"):
        rollout(model, torch.zeros(4), torch.zeros(2, 5, 1), 3, "psychic", torch.Generator())
    with pytest.raises(ValueError, match="precision: got 'half', expected one of auto, float32, bfloat16"):
        rollout(model, torch.zeros(4), torch.zeros(2, 5, 1), 3, "ts1", torch.Generator(), precision="half")
    with pytest.raises(ValueError, match="particles: got 4, expected a multiple of the model's 3 members"):
        rollout(model, torch.zeros(4), torch.zeros(2, 5, 1), 4, "ts1", torch.Generator())


def test_states_are_not_wrapped():
    class Spinning(KnownMember):
        def predict(self, state, action):
            mean = state.expand(self.members, *state.shape[-2:]) + torch.tensor([0.0, 1.0, 0.0, 0.0])
            return GaussianPrediction(mean, torch.zeros_like(mean))

    states = rollout(Spinning(1, 0.0), torch.zeros(4), torch.zeros(1, 10, 1), 1, "tsinf", torch.Generator()).states
    np.testing.assert_allclose(states[0, 0, :, 1], np.arange(11.0))
