# SPDX-License-Identifier: Apache-2.0
"""Rollouts of policies: against open-loop ones, and against a plain, slow one."""

import pytest
import torch
from problems import SPEC, sample

from mbrl_dynamics.closed_loop import closed_loop_rollout
from mbrl_dynamics.propagation import PROPAGATIONS
from mbrl_dynamics.registry import make_model
from mbrl_dynamics.rollout import RolloutInterrupted, rollout

torch.set_num_threads(1)
STATE = torch.tensor([0.1, 2.0, 0.2, -0.3])
COUNT, HORIZON, PARTICLES = 3, 4, 10
MODELS = {"ensemble": {"hidden_size": 16, "first_steps": 10}, "linear": {}}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    learned = make_model(request.param, MODELS[request.param], SPEC, 0)
    learned.fit(sample(200, 1), 0)
    return learned


def generator():
    return torch.Generator().manual_seed(3)


def gains():
    """Each candidate has its own, which changes from step to step: [N, H, state_size]."""
    return torch.randn(COUNT, HORIZON, 4, generator=torch.Generator().manual_seed(1))


def feedback(states, step):
    """a = 2 tanh(K_t s) for candidates [N, P, 4]."""
    return 2.0 * torch.tanh(torch.bmm(states, gains()[:, step, :, None]))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@torch.no_grad()
def test_a_policy_that_ignores_the_state_is_an_action_sequence(model, propagation):
    actions = 4.0 * torch.rand(COUNT, HORIZON, 1, generator=generator()) - 2.0

    def policy(states, step):
        return actions[:, step, None].expand(-1, states.shape[1], -1)

    closed = closed_loop_rollout(model, STATE, policy, COUNT, HORIZON, PARTICLES, propagation, generator())
    opened = rollout(model, STATE, actions, PARTICLES, propagation, generator())
    torch.testing.assert_close(closed.states, opened.states, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(closed.actions, actions[:, None].expand_as(closed.actions))


def plain(model, propagation):
    """The definition, with the engine's draws: one candidate, one particle, one step at a time."""
    members, share, random = model.members, PARTICLES // model.members, generator()
    kept = 1 if propagation == "mean" else PARTICLES
    noise = torch.zeros(HORIZON, 1, 4) if kept == 1 else torch.randn(HORIZON, PARTICLES, 4, generator=random)
    orders = torch.arange(kept).expand(HORIZON, -1)
    if propagation == "ts1" and members > 1:
        orders = torch.rand(HORIZON, PARTICLES, generator=random).argsort(dim=1)
    states, actions = torch.empty(COUNT, kept, HORIZON + 1, 4), torch.empty(COUNT, kept, HORIZON, 1)
    states[:, :, 0] = STATE
    for candidate in range(COUNT):
        for step in range(HORIZON):
            here = states[candidate, :, step]
            acts = torch.stack([2.0 * torch.tanh(gains()[candidate, step] @ state)[None] for state in here])
            actions[candidate, :, step] = acts
            predicted = model.predict(here, acts)
            means, variances = predicted.mean, predicted.variance
            mean = means.mean(dim=0)
            variance = (variances + (means - mean).square()).mean(dim=0)
            for particle in range(kept):
                place = int((orders[step] == particle).nonzero())
                draw = noise[step, place]
                if propagation in ("ts1", "tsinf"):
                    member = place // share
                    following = means[member, particle] + variances[member, particle].sqrt() * draw
                elif propagation == "mm":
                    overall = mean.mean(dim=0)
                    spread = (variance + (mean - overall).square()).mean(dim=0)
                    following = overall + spread.sqrt() * draw
                else:
                    following = mean[particle] + variance[particle].sqrt() * draw
                states[candidate, particle, step + 1] = following
    return states, actions


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@torch.no_grad()
def test_feedback_meets_the_states_of_each_particle(model, propagation):
    closed = closed_loop_rollout(model, STATE, feedback, COUNT, HORIZON, PARTICLES, propagation, generator())
    states, actions = plain(model, propagation)
    torch.testing.assert_close(closed.states, states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(closed.actions, actions, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_rolled_out_is_refused(model):
    def roll(policy=feedback, particles=PARTICLES, propagation="tsinf", keep_going=None):
        closed_loop_rollout(model, STATE, policy, COUNT, HORIZON, particles, propagation, generator(), keep_going)

    with pytest.raises(ValueError, match="propagation: got 'psychic', expected one of ts1, tsinf, ds, mm, mean"):
        roll(propagation="psychic")
    with pytest.raises(ValueError, match=r"particles: got 0, expected a multiple of the model's \d members"):
        roll(particles=0)
    with pytest.raises(ValueError, match=r"policy: got actions of shape \[3, 1, 1\], expected \[3, 10, 1\]"):
        roll(policy=lambda states, step: torch.zeros(COUNT, 1, 1))
    asked = iter([True, True, False])
    with pytest.raises(RolloutInterrupted, match="2"):
        roll(keep_going=lambda: next(asked))
