# SPDX-License-Identifier: Apache-2.0
"""The function that a learned reward is: small, smooth, the same in numpy and torch, stored as safetensors.

    x = (encoded next state, action) normalised,   y = (tanh layers of x, x),   z = A y + b
    r_k = -|z|^2 - sum_i effort_i a_i^2        head `squares` (Finn, Levine and Abbeel 2016, section 6.1)
    r_k = z - sum_i effort_i a_i^2             head `linear`

The reward is the mean of its members' r_k, networks of one shape. What a single one makes of states that nobody showed
is chance, and planners go wherever that is good; the mean of several is less of it.

An encoded state has its linear variables, then sines, then cosines of its angles, and with `angle_pairs` those of the
sum and the difference of every two angles: where a point of a chain of two joints is, is linear in these. x goes past
the layers, too: a head of squares then falls off in every direction that no demonstration ever went.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mbrl_core.checkpoint import CheckpointError, decode_arrays, encode_arrays
from mbrl_core.libraries import Batch, array_library
from mbrl_core.specs import RobotSpec

FORMAT, FORMAT_VERSION = "mbrl_reward", 2
HEADS = ("squares", "linear")
MOST_MEMBERS = 64
MOST_BYTES = 64 * 2**20  # of a message; small networks have some kilobytes


@dataclass(frozen=True)
class RewardLayout:
    """What the arrays of a reward network mean.

    Attributes:
        interface_hash: of the robot that it was learned on.
        angular: [n], whether a state variable is an angle.
        action_size: m.
        action_input: whether the network sees the action, beside the price of effort.
        head: one of HEADS.
        layers: number of hidden layers.
        members: K, networks whose mean the reward is; weights, biases and effort have a leading axis of as many.
        angle_pairs: whether sums and differences of two angles are inputs as well.
    """

    interface_hash: str
    angular: tuple[bool, ...]
    action_size: int
    action_input: bool = False
    head: str = "squares"
    layers: int = 2
    members: int = 1
    angle_pairs: bool = False

    @classmethod
    def of(
        cls,
        spec: RobotSpec,
        action_input: bool,
        head: str,
        layers: int,
        members: int = 1,
        angle_pairs: bool = False,
    ) -> "RewardLayout":
        """On a robot."""
        angular = tuple(bool(value) for value in spec.state.angular)
        return cls(spec.interface_hash, angular, spec.action.size, action_input, head, layers, members, angle_pairs)

    @property
    def state_size(self) -> int:
        """n."""
        return len(self.angular)

    @property
    def input_size(self) -> int:
        """Of x."""
        angles = sum(self.angular)
        pairs = 2 * angles * (angles - 1) if self.angle_pairs else 0
        return self.state_size + angles + pairs + self.action_size * self.action_input

    def names(self) -> list[str]:
        """Of the arrays."""
        layers = [f"layer{index}/{part}" for index in range(self.layers) for part in ("weight", "bias")]
        return ["shift", "scale", *layers, "head/weight", "head/bias", "effort"]

    def inputs(self, next_state: Batch, action: Batch) -> Batch:
        """x before it is normalised, [..., input_size]."""
        library = array_library(next_state)
        linear = [index for index, angle in enumerate(self.angular) if not angle]
        turning = [index for index, angle in enumerate(self.angular) if angle]
        angles = next_state[..., turning]
        if self.angle_pairs and len(turning) > 1:
            first, second = zip(*combinations(turning, 2), strict=True)
            one, two = next_state[..., list(first)], next_state[..., list(second)]
            angles = library.concatenate([angles, one + two, one - two], axis=-1)
        parts = [next_state[..., linear], library.sin(angles), library.cos(angles)]
        if self.action_input:
            parts.append(library.broadcast_to(action, (*next_state.shape[:-1], self.action_size)))
        return library.concatenate(parts, axis=-1)

    def reward(self, arrays: Mapping[str, Batch], next_state: Batch, action: Batch, effort: float = 1.0) -> Batch:
        """[...] of next states [..., n] and actions [..., m]; `arrays` are of the same library and precision."""
        return self.member_rewards(arrays, next_state, action, effort).mean(0)

    def member_rewards(
        self, arrays: Mapping[str, Batch], next_state: Batch, action: Batch, effort: float = 1.0
    ) -> Batch:
        """r_k [K, ...]."""
        library = array_library(next_state)
        inputs = (self.inputs(next_state, action) - arrays["shift"]) / arrays["scale"]
        rows = inputs.reshape((1, -1, self.input_size))
        hidden = rows
        for index in range(self.layers):
            hidden = library.tanh(_affine(arrays, f"layer{index}", hidden))
        # Of [hidden, inputs] side by side, without making that for every member.
        own = arrays["head/weight"].shape[1] - self.input_size if self.layers else 0
        head = rows @ arrays["head/weight"][:, own:] + arrays["head/bias"][:, None]
        if self.layers:
            head = head + hidden @ arrays["head/weight"][:, :own]
        value = head[..., 0] if self.head == "linear" else -(head * head).sum(-1)
        price = ((action * action).reshape((1, -1, self.action_size)) @ arrays["effort"][..., None])[..., 0]
        # Actions may be one for several states, such as the particles of a plan.
        leading, missing = inputs.shape[:-1], (1,) * (inputs.ndim - action.ndim)
        value = value.reshape((self.members, *leading))
        return value - effort * price.reshape((self.members, *missing, *action.shape[:-1]))

    def check(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Raises CheckpointError that names `source` on arrays of other names, shapes or types and on numbers that are
        not finite.
        """
        if sorted(arrays) != sorted(self.names()):
            raise CheckpointError(
                f"{source}: got arrays {', '.join(sorted(arrays))}, expected {', '.join(self.names())}"
            )
        outputs, count = 1 if self.head == "linear" else _width(arrays["head/bias"]), self.members
        shapes: dict[str, tuple[int, ...]] = {
            "shift": (self.input_size,), "scale": (self.input_size,), "effort": (count, self.action_size),
        }  # fmt: skip
        width = self.input_size
        for index in range(self.layers):
            units = _width(arrays[f"layer{index}/bias"])
            shapes |= {f"layer{index}/weight": (count, width, units), f"layer{index}/bias": (count, units)}
            width = units
        joined = width + self.input_size if self.layers else width
        shapes |= {"head/weight": (count, joined, outputs), "head/bias": (count, outputs)}
        for name, shape in shapes.items():
            values = arrays[name]
            if values.shape != shape or not np.issubdtype(values.dtype, np.floating):
                raise CheckpointError(
                    f"{source}: {name} is {values.dtype} {list(values.shape)}, expected floating {list(shape)}"
                )
            if not np.isfinite(values).all():
                raise CheckpointError(f"{source}: {name} has numbers that are not finite")
        if not (arrays["scale"] > 0.0).all():
            raise CheckpointError(f"{source}: scale has numbers that are not positive")


def encode_reward(layout: RewardLayout, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Safetensors bytes of a reward, which a file holds and a Task message carries. Raises CheckpointError as `check`
    does.
    """
    layout.check(arrays, "learned reward")
    information = {"format": FORMAT, "format_version": FORMAT_VERSION, **vars(layout), "angular": [*layout.angular]}
    return encode_arrays({name: np.asarray(arrays[name], np.float64) for name in layout.names()}, information)


def decode_reward(content: bytes, source: str) -> tuple[RewardLayout, dict[str, np.ndarray]]:
    """The reverse. Raises CheckpointError that names `source` on bytes that are cut, damaged, of another format or too
    many, and as `check` does.
    """
    if len(content) > MOST_BYTES:
        raise CheckpointError(f"{source}: got {len(content)} bytes, expected at most {MOST_BYTES}")
    arrays = decode_arrays(content, source)
    size = int.from_bytes(content[:8], "little")
    try:
        information = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["mbrl"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{source}: safetensors, but not a learned reward") from None
    layout = _layout(information, source)
    layout.check(arrays, source)
    return layout, {name: np.asarray(values, np.float64) for name, values in arrays.items()}


def _layout(information: Any, source: str) -> RewardLayout:
    if not isinstance(information, dict) or information.get("format") != FORMAT:
        raise CheckpointError(f"{source}: safetensors, but not a learned reward")
    if information.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{source}: got a learned reward of version {information.get('format_version')!r}, expected"
            f" {FORMAT_VERSION}"
        )
    types = {
        "interface_hash": str,
        "angular": list,
        "action_size": int,
        "action_input": bool,
        "head": str,
        "layers": int,
        "members": int,
        "angle_pairs": bool,
    }
    for name, kind in types.items():
        if type(information.get(name)) is not kind:
            raise CheckpointError(f"{source}: {name} is {information.get(name)!r}, expected {kind.__name__}")
    angular = information["angular"]
    if not angular or not all(isinstance(value, bool) for value in angular):
        raise CheckpointError(f"{source}: angular is {angular!r}, expected a truth value for each state variable")
    if information["head"] not in HEADS or not (
        information["action_size"] >= 1 <= information["members"] <= MOST_MEMBERS and 0 <= information["layers"] <= 16
    ):
        raise CheckpointError(
            f"{source}: got head {information['head']!r}, {information['action_size']} actions,"
            f" {information['members']} members and {information['layers']} layers, expected one of"
            f" {', '.join(HEADS)}, at least 1, 1 to {MOST_MEMBERS} and 0 to 16"
        )
    return RewardLayout(**{**{name: information[name] for name in types}, "angular": tuple(angular)})


def _affine(arrays: Mapping[str, Batch], name: str, rows: Batch) -> Batch:
    """[K, N, units] of rows [K or 1, N, inputs]."""
    return rows @ arrays[f"{name}/weight"] + arrays[f"{name}/bias"][:, None]


def _width(bias: np.ndarray) -> int:
    return int(bias.shape[1]) if bias.ndim == 2 else -1
