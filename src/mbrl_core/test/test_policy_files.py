# SPDX-License-Identifier: Apache-2.0
"""Policies on disk and as arrays: what comes back, and what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from policy_problems import CASES, SPEC, STEP, drawn_policy, name_of, states

from mbrl_core.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from mbrl_core.policies import Policy, PolicyError, load_policy, save_policy


@pytest.fixture(params=CASES, ids=name_of)
def policy(request: pytest.FixtureRequest) -> Policy:
    return drawn_policy(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.safetensors"


def test_checkpoints_come_back_bit_by_bit(policy: Policy, path: Path) -> None:
    save_policy(path, policy, {"return": 3.0})
    again = load_policy(path, SPEC)
    assert (again.kind, again.config) == (policy.kind, policy.config)
    for method in ("mode", "gaussian"):
        ours, theirs = (getattr(each, method)(states(9), STEP) for each in (policy, again))
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())
    assert load_checkpoint(path)[1]["return"] == 3.0
    with pytest.raises(CheckpointError, match="expected .* of robot 'two'"):
        load_policy(path, dataclasses.replace(SPEC, period=0.1))


def test_a_checkpoint_cut_anywhere_is_refused(path: Path) -> None:
    save_policy(path, drawn_policy(CASES[0]))
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="policy.safetensors"):
            load_policy(path, SPEC)


def first_weight(arrays: dict[str, np.ndarray]) -> str:
    return next(name for name in sorted(arrays) if not name.startswith("observation"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(policy: Policy, path: Path, value: float) -> None:
    save_policy(path, policy)
    arrays, information = load_checkpoint(path)
    name = first_weight(arrays)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[-1] = value
    save_checkpoint(path, arrays, information)
    with pytest.raises(PolicyError, match=f"array '{name}' is {value} at .*, expected finite"):
        load_policy(path, SPEC)


def test_wrong_shapes_types_and_names_are_refused(policy: Policy, path: Path) -> None:
    save_policy(path, policy)
    arrays, information = load_checkpoint(path)
    name = first_weight(arrays)
    shape = list(arrays[name].shape)
    for changed, message in (
        ({**arrays, name: arrays[name][:-1]}, rf"array '{name}' is float32 .*, expected float32 \{shape}"),
        ({**arrays, name: arrays[name].astype(np.float64)}, f"array '{name}' is float64"),
        ({**arrays, "more": np.zeros(1)}, "array 'more' is unknown"),
        ({key: value for key, value in arrays.items() if key != name}, f"array '{name}' is missing"),
    ):
        save_checkpoint(path, changed, information)
        with pytest.raises(PolicyError, match=message):
            load_policy(path, SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "learner"}, "got a checkpoint of 'learner', expected 'policy'"),
        ({"kind": "lookup"}, "unknown policy 'lookup', expected one of: chunks, linear, mixture, mlp"),
        ({"kind": None}, "without interface_hash, kind or configuration"),
        ({"configuration": {"hidden_unit": 3}}, "unknown parameter 'hidden_unit'"),
        ({"configuration": {"hidden_layers": 0}}, "'hidden_layers': got 0, expected at least 1"),
        ({"configuration": {"observed": ["elbow"]}}, "'observed': got 'elbow', expected some of x, angle"),
    ],
)
def test_other_checkpoints_are_refused(path: Path, changes: dict, message: str) -> None:
    save_policy(path, drawn_policy(("mlp", {})))
    arrays, information = load_checkpoint(path)
    save_checkpoint(path, arrays, {**information, **changes})
    with pytest.raises(CheckpointError, match=message):
        load_policy(path, SPEC)


def test_a_scale_that_is_not_positive_is_refused(path: Path) -> None:
    policy = drawn_policy(("mlp", {}))
    policy.observation_scale[1] = 0.0
    save_policy(path, policy)
    with pytest.raises(PolicyError, match="'observation_scale' has 0, expected positive"):
        load_policy(path, SPEC)
