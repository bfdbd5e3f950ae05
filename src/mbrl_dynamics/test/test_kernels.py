# SPDX-License-Identifier: Apache-2.0
"""The compiled rollout against the torch path, for every variant that this processor can run."""

import copy
import dataclasses
import logging
import os

import numpy as np
import pytest
import torch
from problems import SPEC, sample

from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec
from mbrl_dynamics import kernels as kernels_module
from mbrl_dynamics.ensemble_folding import FoldedEnsemble
from mbrl_dynamics.ensemble_kernel import EnsembleKernel
from mbrl_dynamics.kernels import kernels
from mbrl_dynamics.model import RolloutInterrupted
from mbrl_dynamics.propagation import PROPAGATIONS, Draws
from mbrl_dynamics.registry import make_model
from mbrl_dynamics.rollout import rollout

torch.set_num_threads(1)
LIBRARY = kernels()
VARIANTS = [variant for variant in LIBRARY.variants if variant.usable] if LIBRARY else []
if "AMENT_PREFIX_PATH" in os.environ:
    assert LIBRARY is not None, "package mbrl_kernels is not built"
needs_library = pytest.mark.skipif(LIBRARY is None, reason="package mbrl_kernels is not built")


def spec_of(kinds: str, actions: int) -> RobotSpec:
    """`kinds` has a letter for each state: l for linear, a for angular."""
    count = len(kinds)
    return RobotSpec(
        "robot",
        0.05,
        StateSpec(
            tuple(f"s{index}" for index in range(count)),
            tuple({"l": "linear", "a": "angular"}[kind] for kind in kinds),
            ("m",) * count,
            (-np.inf,) * count,
            (np.inf,) * count,
        ),
        ActionSpec(
            tuple(f"a{index}" for index in range(actions)),
            ("effort",) * actions,
            ("N",) * actions,
            (-1.0,) * actions,
            (1.0,) * actions,
            (1.0,) * actions,
            (np.inf,) * actions,
        ),
    )


def an_ensemble(spec: RobotSpec = SPEC, **changes):
    """With weights that are not trained but make every part matter."""
    model = make_model("ensemble", {"hidden_size": 32, **changes}, spec, 0)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.weights.items():
            if name.startswith(("weight_out", "weight_linear", "bias")):
                weight += 0.1 * torch.randn(weight.shape, generator=random)
    model.normalisation.input_mean += 0.1 * torch.randn(model.encoder.size, generator=random)
    model.normalisation.input_scale *= 1.0 + torch.rand(model.encoder.size, generator=random)
    model.normalisation.output_mean += 0.02 * torch.randn(spec.state.size, generator=random)
    model.normalisation.output_scale *= 0.1 + 0.1 * torch.rand(spec.state.size, generator=random)
    return model


def compiled(model, variant, state, actions, particles, propagation, threads=1, keep_going=None):
    kernel = EnsembleKernel(LIBRARY, variant, model.encoder, FoldedEnsemble.of(model.normalisation, model.weights))
    random = torch.Generator().manual_seed(7)
    draws = Draws.of(propagation, model.members, actions.shape[1], particles, len(state), random)
    return kernel.rollout(state, actions, draws, threads, keep_going)


def through_torch(model, state, actions, particles, propagation, monkeypatch):
    monkeypatch.setattr(type(model), "trajectories", lambda *arguments: None)
    return rollout(model, state, actions, particles, propagation, torch.Generator().manual_seed(7)).states


def problem(spec: RobotSpec, count: int, horizon: int = 6):
    random = torch.Generator().manual_seed(1)
    state = torch.randn(spec.state.size, generator=random)
    return state, 2.0 * torch.rand(count, horizon, spec.action.size, generator=random) - 1.0


SHAPES = [
    # states, actions, members, hidden size, hidden layers, candidates, particles
    ("lall", 1, 5, 32, 2, 37, 10),
    ("lall", 1, 1, 200, 4, 50, 3),
    ("ll", 1, 2, 3, 1, 1, 2),
    ("aaa", 2, 3, 17, 2, 65, 3),
    ("l", 3, 5, 1, 3, 16, 5),
    ("lallalall", 4, 2, 40, 2, 49, 4),
    ("lall", 1, 2, 8, 5, 33, 2),
    ("la", 2, 2, 72, 3, 15, 2),
    ("lal", 1, 1, 208, 2, 32, 1),
    ("l", 1, 2, 200, 1, 100, 2),
]


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_every_variant_equals_the_torch_path(shape, variant, propagation, monkeypatch):
    kinds, action_size, members, hidden_size, hidden_layers, count, particles = shape
    spec = spec_of(kinds, action_size)
    model = an_ensemble(spec, members=members, hidden_size=hidden_size, hidden_layers=hidden_layers)
    state, actions = problem(spec, count)
    ours = compiled(model, variant, state, actions, particles, propagation)
    expected = through_torch(model, state, actions, particles, propagation, monkeypatch)
    assert ours.shape == expected.shape
    if variant.bfloat16:
        # Eight bits of each factor: errors of a hundredth of what the state moves.
        moved = (expected - state).abs().amax(dim=(0, 1, 2))
        assert ((ours - expected).abs().amax(dim=(0, 1, 2)) <= 0.02 * moved).all()
        assert hidden_size < 3 or not torch.equal(ours, expected)
    else:
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_one_step_is_exact_to_rounding_even_far_out(variant):
    """Activations and bounds at the ends of their ranges, against double precision."""
    model = an_ensemble(members=1, hidden_layers=1, hidden_size=64)
    accuracy = 4e-3 if variant.bfloat16 else 3e-6  # of the largest
    with torch.no_grad():
        for gain in (1e-3, 1.0, 30.0, 1000.0):
            model.weights["weight_0"].copy_(gain * torch.linspace(-1.0, 1.0, 64).expand(1, 6, 64))
            model.weights["weight_out"][..., 4:] *= 3.0
            state, actions = torch.tensor([0.3, 700.0, -2.0, 5.0]), torch.linspace(-1.0, 1.0, 33).view(-1, 1, 1)
            ours = compiled(model, variant, state, actions, 1, "tsinf")[:, 0, 1]
            noise = Draws.of("tsinf", 1, 1, 1, 4, torch.Generator().manual_seed(7)).noise[0, 0]
            double = model.clone()
            double.weights = {name: weight.double() for name, weight in model.weights.items()}
            for name, value in vars(model.normalisation).items():
                setattr(double.normalisation, name, value.double())
            prediction = double.predict(state.double().expand(33, 4), actions[:, 0].double())
            expected = prediction.mean[0] + prediction.variance[0].sqrt() * noise.double()
            largest = (expected - state.double()).abs().max().item()
            torch.testing.assert_close(ours.double(), expected, rtol=accuracy, atol=accuracy * largest + 1e-6)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@torch.no_grad()
def test_what_diverges_is_not_finite_and_the_rest_is_untouched(variant, propagation):
    model = an_ensemble(members=2)
    state, actions = problem(SPEC, 40, horizon=4)
    clean = compiled(model, variant, state, actions, 4, propagation)
    assert clean.isfinite().all()
    for bad in (torch.nan, torch.inf, -torch.inf):
        broken = actions.clone()
        broken[17, 1] = bad
        states = compiled(model, variant, state, broken, 4, propagation)
        assert not states[17, :, 2:].isfinite().any()
        assert torch.equal(states[17, :, :2], clean[17, :, :2])
        others = torch.arange(40) != 17
        assert torch.equal(states[others], clean[others])
        start = state.clone()
        start[1] = bad
        assert not compiled(model, variant, start, actions, 4, propagation)[:, :, 1:].isfinite().any()
    model.weights["weight_linear"] *= 1e4  # grows beyond the range of float32 in a few steps
    state, actions = problem(SPEC, 40, horizon=30)
    assert not compiled(model, variant, state, actions, 4, propagation)[:, :, -1].isfinite().any()


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("size", [32, 200])
@torch.no_grad()
def test_threads_do_not_change_a_byte(size, variant, propagation):
    model = an_ensemble(members=5, hidden_size=size)
    state, actions = problem(SPEC, 150)
    alone = compiled(model, variant, state, actions, 10, propagation)
    for threads in (2, 3, 64):
        assert torch.equal(compiled(model, variant, state, actions, 10, propagation, threads), alone)


@needs_library
@torch.no_grad()
def test_the_engine_takes_the_best_variant_and_new_weights():
    assert LIBRARY is not None
    assert not LIBRARY.best("float32").bfloat16
    has_bfloat16 = any(variant.bfloat16 and variant.pays for variant in VARIANTS)
    assert LIBRARY.best("auto") == LIBRARY.best("bfloat16") and LIBRARY.best("auto").bfloat16 == has_bfloat16
    model = an_ensemble()
    state, actions = problem(SPEC, 20)
    for precision in ("float32", "bfloat16"):
        random = torch.Generator().manual_seed(7)
        states = rollout(model, state, actions, 5, "ts1", random, precision=precision).states
        assert torch.equal(states, compiled(model, LIBRARY.best(precision), state, actions, 5, "ts1"))
    twin = model.clone()
    with torch.enable_grad():
        model.fit(sample(100, 1), 0)
    changed = rollout(model, state, actions, 5, "ts1", torch.Generator().manual_seed(7)).states
    kept = rollout(twin, state, actions, 5, "ts1", torch.Generator().manual_seed(7)).states
    assert torch.equal(kept, compiled(twin, LIBRARY.best("float32"), state, actions, 5, "ts1"))
    assert not torch.equal(changed, kept)
    twin.load_arrays(model.state_arrays())
    loaded = rollout(twin, state, actions, 5, "ts1", torch.Generator().manual_seed(7)).states
    assert torch.equal(loaded, changed)


@needs_library
def test_bfloat16_is_chosen_where_it_is_faster_alone():
    assert LIBRARY is not None
    found = {variant.name: variant for variant in LIBRARY.variants}
    assert all(variant.pays for variant in LIBRARY.variants if variant.name != "avx512_bf16")

    def best(**changes: dict[str, bool]) -> list[str]:
        """Of every precision, were the processor another one."""
        other = copy.copy(LIBRARY)
        usable = {"generic": {"usable": True}, "avx512": {"usable": True}} | changes
        other.variants = tuple(
            dataclasses.replace(variant, **({"usable": False} | usable.get(name, {})))
            for name, variant in found.items()
        )
        return [other.best(precision).name for precision in ("float32", "bfloat16", "auto")]

    if not {"avx512", "avx512_bf16", "amx_bf16"} <= found.keys():
        pytest.skip("this compiler or machine has none of them")
    vectors, tiles = {"usable": True, "pays": True}, {"usable": True}
    assert best() == ["avx512"] * 3
    assert best(avx512_bf16=vectors) == ["avx512", "avx512_bf16", "avx512_bf16"]
    assert best(avx512_bf16=vectors | {"pays": False}) == ["avx512"] * 3
    assert best(avx512_bf16=vectors | {"pays": False}, amx_bf16=tiles) == ["avx512", "amx_bf16", "amx_bf16"]


@needs_library
@torch.no_grad()
def test_a_rollout_stops_when_it_is_told_to():
    model = an_ensemble()
    state, actions = problem(SPEC, 500)
    asked = []

    def keep_going() -> bool:
        asked.append(len(asked))
        return len(asked) < 3

    with pytest.raises(RolloutInterrupted):
        compiled(model, VARIANTS[-1], state, actions, 20, "ts1", 1, keep_going)
    assert len(asked) == 3


def test_without_the_library_torch_takes_over(monkeypatch, caplog):
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/nowhere")
    kernels_module.kernels.cache_clear()
    model = an_ensemble()
    state, actions = problem(SPEC, 7)
    try:
        with caplog.at_level(logging.WARNING):
            first = rollout(model, state, actions, 5, "ts1", torch.Generator().manual_seed(7), precision="auto").states
            rollout(model, state, actions, 5, "mean", torch.Generator().manual_seed(7), precision="auto")
    finally:
        monkeypatch.undo()
        kernels_module.kernels.cache_clear()
    assert [record.message for record in caplog.records if "mbrl_kernels" in record.message] == [
        "libmbrl_kernels.so is not on AMENT_PREFIX_PATH: rollouts go through torch"
    ]
    torch.testing.assert_close(
        first, rollout(model, state, actions, 5, "ts1", torch.Generator().manual_seed(7)).states, atol=2e-5, rtol=2e-5
    )


@needs_library
def test_wrong_shapes_and_devices_are_refused():
    model = an_ensemble()
    state, actions = problem(SPEC, 7)
    generator = torch.Generator().manual_seed(7)
    with pytest.raises(ValueError, match=r"got state \[2\] and actions"):
        rollout(model, state[:2], actions, 5, "tsinf", generator)
    for wrong in (actions[..., :0], actions.repeat(1, 1, 3), actions[0]):
        with pytest.raises(ValueError, match=r"rollout: got state|dimension|unpack"):
            rollout(model, state, wrong, 5, "tsinf", generator)
    with pytest.raises(ValueError, match="the model on meta, expected one device"):
        rollout(model.to(torch.device("meta")), state, actions, 5, "tsinf", generator)


@needs_library
def test_what_the_question_raises_comes_out_of_the_rollout():
    model = an_ensemble()
    state, actions = problem(SPEC, 500)

    def stop() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout(model, state, actions, 5, "tsinf", torch.Generator().manual_seed(7), stop)
