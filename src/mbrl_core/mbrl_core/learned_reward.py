# SPDX-License-Identifier: Apache-2.0
"""A learned reward is a task: planners maximise it, and it is latched, whole, as every other."""

from pathlib import Path
from typing import Any

from mbrl_core.checkpoint import CheckpointError, write_atomically
from mbrl_core.config import ConfigurationError
from mbrl_core.libraries import Batch, array_library
from mbrl_core.reward_network import RewardLayout, decode_reward
from mbrl_core.specs import RobotSpec
from mbrl_core.task import Task


class LearnedReward(Task):
    """The reward of a network over the features of the state that an action leads to, see `RewardLayout`.

    `content` is what `encode_reward` gave. Weight `reward` scales all of it, `effort` the price of actions alone. No
    state ends an episode, and none is known to be a success: a person said what is good, not what is enough.

    Raises ConfigurationError on content that is no learned reward, cut, damaged, or not finite.
    """

    kind = "learned"
    learned = True
    default_weights = {"reward": 1.0, "effort": 1.0}

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            layout, arrays = decode_reward(self.content, f"task {self.kind!r} content")
        except CheckpointError as error:
            raise ConfigurationError(str(error)) from None
        for name, value in (
            ("_layout", layout), ("_arrays", arrays), ("_tensors", {}),
            ("state_size", layout.state_size), ("action_size", layout.action_size),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    @property
    def layout(self) -> RewardLayout:
        """What the network is."""
        layout: RewardLayout = vars(self)["_layout"]
        return layout

    def check_robot(self, spec: RobotSpec) -> None:
        """Raises ConfigurationError when the reward was learned on a robot of another interface."""
        super().check_robot(spec)
        if self.layout.interface_hash != spec.interface_hash:
            raise ConfigurationError(
                f"task {self.kind!r}: learned on interface {self.layout.interface_hash[:12]!r}, expected"
                f" {spec.interface_hash[:12]!r} of robot {spec.name!r}"
            )

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        arrays = self._arrays_like(next_state)
        return self.weights["reward"] * self.layout.reward(arrays, next_state, action, self.weights["effort"])

    def state_is_success(self, state: Batch) -> Batch:
        return array_library(state).zeros_like(state[..., 0]) > 0.0

    def save(self, path: str | Path) -> None:
        """Writes the content to a file, atomically; `load_reward` reads it. Raises OSError."""
        write_atomically(path, self.content)

    def _arrays_like(self, values: Batch) -> Any:
        """The network's arrays for numpy, or as tensors of the precision and device of `values`."""
        library, own = array_library(values), vars(self)
        if not hasattr(library, "inference_mode"):
            return own["_arrays"]
        key = (values.dtype, values.device)
        if key not in own["_tensors"]:
            # Tensors that are made in inference mode could never take part in a gradient later.
            with library.inference_mode(False):
                own["_tensors"][key] = {
                    name: library.tensor(array, dtype=values.dtype, device=values.device)
                    for name, array in own["_arrays"].items()
                }
        return own["_tensors"][key]


def load_reward(path: str | Path, version: int = 1) -> LearnedReward:
    """A learned reward of a file. Raises FileNotFoundError, ConfigurationError that names the file."""
    content = Path(path).read_bytes()
    try:
        return LearnedReward(content=content, version=version)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
