# SPDX-License-Identifier: Apache-2.0
"""Guided cost learning as arrays, so that it goes on where a checkpoint was written."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.demonstrations import Demonstration
from mbrl_policy.irl.guided_cost import GuidedCostLearning
from mbrl_policy.irl.proposals import Proposals
from mbrl_policy.training.optimisers import module_arrays, optimiser_arrays, restore_module, restore_optimiser

MODULES = ("model", "averaged", "potential")
PARTS = ("states", "actions", "gains", "roots")  # of proposals
EPISODE = ("episode_states", "episode_actions")
SHOWN = ("shown_states", "shown_actions")


def learner_arrays(learner: GuidedCostLearning) -> dict[str, np.ndarray]:
    """Weights, optimiser, proposals with their samples, and episodes, copied; not the demonstrations."""
    arrays = {"iteration": np.array([learner.iteration])}
    for name in MODULES:
        arrays |= module_arrays(name, getattr(learner, name))
    arrays |= optimiser_arrays("adam", learner.optimiser)
    for index, (proposals, samples) in enumerate(zip(learner.proposals, learner.samples, strict=True)):
        arrays |= {f"proposals/{index}/{part}": _array(getattr(proposals, part)) for part in PARTS}
        arrays |= {f"samples/{index}/{part}": _array(value) for part, value in zip(PARTS, samples, strict=False)}
    episodes = [(states.numpy(), actions.numpy()) for states, actions, _ in learner.episodes]
    arrays |= stretches_arrays(EPISODE, episodes)
    arrays["episode_density"] = np.array([density for _, _, density in learner.episodes])
    return arrays


def restore_learner(learner: GuidedCostLearning, arrays: Mapping[str, np.ndarray]) -> None:
    """Takes up `learner_arrays` in a learner of the same configuration, demonstrations and seed.

    Raises CheckpointError on what is of another shape or not finite, KeyError on what is missing.
    """
    for name in MODULES:
        restore_module(name, getattr(learner, name), arrays)
    restore_optimiser("adam", learner.optimiser, arrays)
    proposals: list[Proposals] = []
    samples: list[tuple[Tensor, Tensor]] = []
    windows = len(learner.shown_states)
    while f"proposals/{len(proposals)}/{PARTS[0]}" in arrays:
        index = len(proposals)
        parts = {part: _tensor(arrays[f"proposals/{index}/{part}"], windows) for part in PARTS}
        proposals.append(Proposals(**parts, angular=learner.guide.angular))
        states, actions = (_tensor(arrays[f"samples/{index}/{part}"], windows) for part in PARTS[:2])
        samples.append((states, actions))
    episodes = stretches_of(EPISODE, arrays)
    densities = arrays["episode_density"]
    if len(densities) != len(episodes):
        raise CheckpointError(f"array 'episode_density': got {len(densities)}, expected {len(episodes)}")
    learner.proposals, learner.samples = proposals, samples
    learner.episodes = [
        (torch.from_numpy(states.copy()), torch.from_numpy(actions.copy()), float(density))
        for (states, actions), density in zip(episodes, densities, strict=True)
    ]
    learner.iteration = int(arrays["iteration"][0])


def stretches_arrays(
    names: tuple[str, str], stretches: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """States [T_i + 1, n] and actions [T_i, m], one after another, with their lengths T_i."""
    if not stretches:
        return {}
    joined = [np.concatenate(list(parts)) for parts in zip(*stretches, strict=True)]
    lengths = np.array([len(actions) for _, actions in stretches])
    return {**dict(zip(names, joined, strict=True)), f"{names[1]}_lengths": lengths}


def stretches_of(names: tuple[str, str], arrays: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `stretches_arrays` wrote; none where it wrote none. Raises CheckpointError where lengths do not fit."""
    if f"{names[1]}_lengths" not in arrays:
        return []
    states, actions, lengths = (np.array(arrays[name]) for name in (*names, f"{names[1]}_lengths"))
    if len(actions) != lengths.sum() or len(states) != lengths.sum() + len(lengths):
        raise CheckpointError(f"array {names[0]!r}: {len(states)} rows do not fit lengths {lengths.tolist()}")
    ends = np.cumsum(lengths)[:-1]
    return list(zip(np.split(states, ends + np.arange(1, len(lengths))), np.split(actions, ends), strict=True))


def demonstrations_of(arrays: Mapping[str, np.ndarray]) -> list[Demonstration]:
    """Of the arrays that `stretches_arrays(SHOWN, ...)` gave. Raises CheckpointError, ValueError."""
    return [Demonstration(states, actions) for states, actions in stretches_of(SHOWN, arrays)]


def _array(value: Tensor) -> np.ndarray:
    return np.asarray(value.detach().numpy().copy())


def _tensor(value: np.ndarray, windows: int) -> Tensor:
    if len(value) != windows:
        raise CheckpointError(f"proposals of {len(value)} windows, expected {windows}")
    return torch.from_numpy(np.array(value))
