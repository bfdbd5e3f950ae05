# SPDX-License-Identifier: Apache-2.0
"""Models on another device. Without a GPU, torch's shape-only device shows that nothing is left behind on the CPU."""

import pytest
import torch
from problems import SPEC, sample

from mbrl_dynamics.closed_loop import closed_loop_rollout
from mbrl_dynamics.model import ModelError
from mbrl_dynamics.propagation import PROPAGATIONS
from mbrl_dynamics.registry import make_model
from mbrl_dynamics.rollout import differentiable_rollout, rollout

torch.set_num_threads(1)
KINDS = {"ensemble": {"hidden_size": 32, "first_steps": 50}, "linear": {}}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


def fitted(kind: str):
    model = make_model(kind, KINDS[kind], SPEC, 0)
    model.fit(sample(200, 1), 0)
    return model


def problem(device: str):
    actions = 2.0 * torch.rand(8, 5, 1, generator=torch.Generator().manual_seed(1)) - 1.0
    return torch.tensor([0.1, 3.0, -0.2, 0.4], device=device), actions.to(device)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=needs_gpu)])
def test_everything_is_on_the_device(device, kind, propagation):
    model = fitted(kind)
    other = model.to(torch.device(device))
    state, actions = problem(device)
    for roll in (rollout, differentiable_rollout):
        states = roll(other, state, actions, 10, propagation, torch.Generator().manual_seed(7)).states
        assert states.device.type == device
        assert states.shape == (8, 1 if propagation == "mean" else 10, 6, 4)
    policy_actions = actions.permute(1, 0, 2).unsqueeze(2)  # [H, N, 1, action_size]
    closed = closed_loop_rollout(
        other,
        state,
        lambda states, step: policy_actions[step].expand(-1, states.shape[1], -1),
        8,
        5,
        10,
        propagation,
        torch.Generator().manual_seed(7),
    )
    assert closed.states.device.type == closed.actions.device.type == device
    assert rollout(model, *problem("cpu"), 10, propagation, torch.Generator()).states.device.type == "cpu"


@needs_gpu
@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_numbers_of_the_cpu(kind, propagation):
    model = fitted(kind)
    other = model.to(torch.device("cuda"))
    for roll in (rollout, differentiable_rollout, rollout):  # the last one into used buffers
        ours = roll(other, *problem("cuda"), 10, propagation, torch.Generator().manual_seed(7)).states
        expected = roll(model, *problem("cpu"), 10, propagation, torch.Generator().manual_seed(7)).states
        torch.testing.assert_close(ours.cpu(), expected, atol=1e-4, rtol=1e-3)


def test_moving_a_model_leaves_the_first_alone():
    model = fitted("ensemble")
    before = {name: value.clone() for name, value in model.weights.items()}
    twin = model.to(torch.device("cpu"))
    twin.fit(sample(100, 2), 1)
    assert all(torch.equal(model.weights[name], value) for name, value in before.items())


def test_kinds_that_cannot_say_so(monkeypatch):
    model = fitted("linear")
    monkeypatch.delattr(type(model), "to")
    with pytest.raises(ModelError, match="a model of kind 'linear' cannot compute on cuda"):
        model.to(torch.device("cuda"))
