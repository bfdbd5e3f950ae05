# SPDX-License-Identifier: Apache-2.0
"""Learned rewards as tasks: the same numbers everywhere, whole or refused."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from mbrl_core.checkpoint import CheckpointError, encode_arrays
from mbrl_core.config import ConfigurationError
from mbrl_core.learned_reward import LearnedReward, load_reward
from mbrl_core.reward_network import RewardLayout, decode_reward, encode_reward
from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec
from mbrl_core.tasks import make_task, task_of_preset


def cart_pole(kind: str = "angular") -> RobotSpec:
    return RobotSpec(
        name="cart_pole",
        period=0.04,
        state=StateSpec(
            ("x", "angle", "v", "rate"), ("linear", kind, "linear", "linear"), ("m", "rad", "m/s", "rad/s"),
            (-math.inf,) * 4, (math.inf,) * 4,
        ),
        action=ActionSpec(("x",), ("effort",), ("N",), (-3.0,), (3.0,), (100.0,), (math.inf,)),
    )  # fmt: skip


SPEC = cart_pole()


def arrays_of(layout: RewardLayout, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    result: dict[str, np.ndarray] = {"shift": random.normal(size=layout.input_size)}
    result["scale"] = random.uniform(0.5, 2.0, layout.input_size)
    width, members = layout.input_size, layout.members
    for index in range(layout.layers):
        result[f"layer{index}/weight"] = random.normal(size=(members, width, 6))
        result[f"layer{index}/bias"] = random.normal(size=(members, 6))
        width = 6
    outputs = 1 if layout.head == "linear" else 3
    joined = width + layout.input_size if layout.layers else width
    result |= {
        "head/weight": random.normal(size=(members, joined, outputs)),
        "head/bias": random.normal(size=(members, outputs)),
    }
    return {**result, "effort": np.full((members, layout.action_size), 0.3)}


def a_reward(head: str = "squares", action_input: bool = False, layers: int = 2) -> LearnedReward:
    layout = RewardLayout.of(SPEC, action_input, head, layers, members=3)
    return LearnedReward(content=encode_reward(layout, arrays_of(layout)))


@pytest.mark.parametrize("head", ["squares", "linear"])
@pytest.mark.parametrize("action_input", [False, True])
@pytest.mark.parametrize("layers", [0, 2])
def test_numpy_and_torch_agree_on_any_leading_shape(head: str, action_input: bool, layers: int) -> None:
    task = a_reward(head, action_input, layers)
    random = np.random.default_rng(1)
    state, next_state = (random.normal(size=(3, 2, 5, 4)) for _ in range(2))
    action = random.normal(size=(3, 2, 5, 1))
    reward = task.reward(state, action, next_state)
    assert reward.shape == task.terminated(state).shape == task.state_is_success(state).shape == (3, 2, 5)
    tensors = [torch.from_numpy(values) for values in (state, action, next_state)]
    np.testing.assert_allclose(task.reward(*tensors).numpy(), reward, rtol=1e-12)
    single = task.reward(*(tensor.float() for tensor in tensors))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), reward, rtol=1e-3, atol=1e-4)
    assert task.reward(state[1, 0, 2], action[1, 0, 2], next_state[1, 0, 2]) == pytest.approx(reward[1, 0, 2])
    shared = task.reward(state, action[:, :1], next_state)
    np.testing.assert_allclose(shared, task.reward(state, np.broadcast_to(action[:, :1], action.shape), next_state))
    fewer = task.reward(state, action[0, 0], next_state)
    np.testing.assert_allclose(fewer, task.reward(state, np.broadcast_to(action[0, 0], action.shape), next_state))
    task.check_robot(SPEC)
    task.check_reward()
    task.check_reward(torch)


def test_a_reward_worked_out_by_hand() -> None:
    layout = RewardLayout.of(SPEC, False, "squares", 0)  # x, v, rate, sine, cosine of the angle
    arrays = {
        "shift": np.array([0.5, 0.0, 0.0, 0.0, -1.0]), "scale": np.array([2.0, 1.0, 1.0, 1.0, 1.0]),
        "head/weight": np.diag([1.0, 0.0, 0.0, 0.0, 2.0])[None, :, [0, 4]], "head/bias": np.array([[0.0, 1.0]]),
        "effort": np.array([[0.25]]),
    }  # fmt: skip
    task = LearnedReward(content=encode_reward(layout, arrays), weights={"reward": 2.0, "effort": 3.0})
    upright, aside = np.array([0.5, np.pi, 9.0, 9.0]), np.array([4.5, np.pi / 2, 0.0, 0.0])
    assert task.reward(aside, np.array([2.0]), upright) == pytest.approx(2.0 * (-1.0 - 3.0 * 0.25 * 4.0))
    assert task.reward(upright, np.array([0.0]), aside) == pytest.approx(2.0 * -(2.0**2 + 3.0**2))


@pytest.mark.parametrize("head", ["squares", "linear"])
@pytest.mark.parametrize("layers", [0, 2])
def test_the_reward_is_the_mean_of_its_members(head: str, layers: int) -> None:
    layout = RewardLayout.of(SPEC, False, head, layers, members=3)
    arrays, random = arrays_of(layout), np.random.default_rng(2)
    parts = random.normal(size=(7, 4)), random.normal(size=(7, 1)), random.normal(size=(7, 4))
    single = dataclasses.replace(layout, members=1)
    each = [
        LearnedReward(
            content=encode_reward(
                single,
                {
                    name: value if name in ("shift", "scale") else value[index : index + 1]
                    for name, value in arrays.items()
                },
            )
        ).reward(*parts)
        for index in range(3)
    ]
    whole = LearnedReward(content=encode_reward(layout, arrays))
    assert np.std(each, axis=0).min() > 0.0
    np.testing.assert_allclose(whole.reward(*parts), np.mean(each, axis=0), rtol=1e-12)


def test_pairs_of_angles_say_where_the_end_of_a_chain_is() -> None:
    # Of a planar arm: the tip is linear in sines and cosines of the first angle and of the sum of both.
    names = ("first", "second", "w1", "w2")
    spec = RobotSpec(
        name="arm", period=0.02,
        state=StateSpec(names, ("angular", "angular", "linear", "linear"), ("rad", "rad", "rad/s", "rad/s"),
                        (-math.inf,) * 4, (math.inf,) * 4),
        action=ActionSpec(("first",), ("effort",), ("Nm",), (-1.0,), (1.0,), (1.0,), (math.inf,)),
    )  # fmt: skip
    state = np.random.default_rng(3).normal(size=(50, 4))
    total = state[:, 0] + state[:, 1]
    tip = 0.1 * np.cos(state[:, 0]) + 0.2 * np.cos(total), 0.1 * np.sin(state[:, 0]) + 0.2 * np.sin(total)
    for pairs, fits in ((True, True), (False, False)):
        layout = RewardLayout.of(spec, False, "squares", 0, angle_pairs=pairs)
        inputs = layout.inputs(state, np.zeros((50, 1)))
        assert inputs.shape == (50, layout.input_size) == (50, 10 if pairs else 6)
        for coordinate in tip:
            error = np.linalg.lstsq(inputs, coordinate, rcond=None)[1]
            assert (error.max(initial=0.0) < 1e-20) == fits
    # A robot with one angle has no pairs.
    one, other = (RewardLayout.of(SPEC, False, "squares", 0, angle_pairs=pairs) for pairs in (True, False))
    np.testing.assert_array_equal(one.inputs(state, state[:, :1]), other.inputs(state, state[:, :1]))


def test_a_whole_turn_changes_nothing_and_gradients_flow_after_inference() -> None:
    task = a_reward()
    state = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    with torch.inference_mode():
        before = float(task.reward(state, torch.zeros(1, 1).double(), state)[0])
    turned = (state + torch.tensor([0.0, 2.0 * math.pi, 0.0, 0.0])).requires_grad_(True)
    reward = task.reward(state, torch.zeros(1, 1).double(), turned)
    assert float(reward.detach()[0]) == pytest.approx(before)
    (gradient,) = torch.autograd.grad(reward.sum(), turned)
    step = np.array([0.0, 1e-6, 0.0, 0.0])
    at = turned.detach().numpy()
    above, below = (task.reward(at, np.zeros((1, 1)), at + sign * step)[0] for sign in (1.0, -1.0))
    assert float(gradient[0, 1]) == pytest.approx((above - below) / 2e-6, rel=1e-5)


def test_it_is_a_task_like_others(tmp_path: Path) -> None:
    task = a_reward()
    task.save(tmp_path / "reward.safetensors")
    again = load_reward(tmp_path / "reward.safetensors")
    assert again == task == make_task("learned", content=task.content)
    assert task_of_preset({"kind": "learned", "file": str(tmp_path / "reward.safetensors")}) == task
    assert dataclasses.replace(task, version=3).reward(*[np.ones(4), np.ones(1), np.ones(4)]) == task.reward(
        np.ones(4), np.ones(1), np.ones(4)
    )
    assert task != a_reward("linear")
    assert len(repr(task)) < 300


def test_content_cut_at_any_byte_is_refused() -> None:
    content = a_reward().content
    for length in {1, 7, 8, 9, 100, len(content) // 2, len(content) - 1}:
        with pytest.raises(ConfigurationError, match="not a whole safetensors file"):
            LearnedReward(content=content[:length])
    with pytest.raises(ConfigurationError, match="got 0 bytes"):
        LearnedReward()
    with pytest.raises(ConfigurationError, match="expected none"):
        make_task("cartpole_tip", content=content)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("head/bias", lambda values: values * np.nan, "not finite"),
        ("layer0/weight", lambda values: values[:-1], "expected floating"),
        ("effort", lambda values: values.astype(np.int64), "int64"),
        ("scale", lambda values: 0.0 * values, "not positive"),
        ("shift", lambda values: values[:, None], "expected floating"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, change: object, told: str) -> None:
    layout = RewardLayout.of(SPEC, False, "squares", 2)
    arrays = arrays_of(layout)
    with pytest.raises(CheckpointError, match=f"{name}.*{told}|{told}"):
        encode_reward(layout, {**arrays, name: change(arrays[name])})  # type: ignore[operator]
    with pytest.raises(CheckpointError, match="expected shift, scale"):
        encode_reward(layout, {key: value for key, value in arrays.items() if key != name})


def test_other_safetensors_are_no_reward() -> None:
    layout = RewardLayout.of(SPEC, False, "squares", 1)
    arrays = arrays_of(layout)
    for content in (save(arrays), encode_arrays(arrays), encode_arrays(arrays, {"format": "mbrl_checkpoint"})):
        with pytest.raises(ConfigurationError, match="not a learned reward"):
            LearnedReward(content=content)
    whole = encode_reward(layout, arrays)
    size = int.from_bytes(whole[:8], "little")
    information = json.loads(json.loads(whole[8 : 8 + size])["__metadata__"]["mbrl"])
    for field, value in (
        ("head", "cubes"), ("layers", 99), ("layers", True), ("angular", [1, 0]), ("angular", []), ("action_size", 0),
        ("format_version", 1), ("interface_hash", None), ("members", 0), ("members", 65), ("members", 2),
        ("angle_pairs", 1),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match="bag: "):
            decode_reward(encode_arrays(arrays, {**information, field: value}), "bag")


def test_another_robot_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"learned on interface '{SPEC.interface_hash[:12]}'"):
        a_reward().check_robot(cart_pole("linear"))
    heavier = dataclasses.replace(SPEC, physical_hash="other masses")
    a_reward().check_robot(heavier)
