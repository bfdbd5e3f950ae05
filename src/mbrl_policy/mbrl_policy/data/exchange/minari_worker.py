# SPDX-License-Identifier: Apache-2.0
"""Writes and reads Minari data sets, in an environment that has Minari.

A part of an episode without a gap is one Minari episode. Minari wants rewards, which a recording does not have: NaN.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from worker_files import COLUMNS, Arrays, Table, label, main, robot, runs  # type: ignore[import-not-found]

SPEC_KEY = "robot_spec"
PREFIX = "recorded_"
TERMINATED = 1


def write(arrays: Arrays, folder: Path) -> None:
    """Makes the data set `NAME-vN` in the folder above."""
    minari = library(folder)
    import gymnasium  # type: ignore[import-not-found]

    spec = json.loads(str(arrays["spec"]))
    bounds = {
        role: gymnasium.spaces.Box(
            np.array(spec[role]["lower"]),
            np.array(spec[role]["upper"]),
            dtype=np.float64,
            shape=(len(spec[role]["names"]),),
        )
        for role in ("state", "action")
    }
    buffers, metadata = [], []
    for where, place in runs(arrays):
        buffers.append(buffer(minari, arrays, where))
        said = {"episode": int(arrays["episode"][where][0]), **label(arrays, place)}
        metadata.append({f"{PREFIX}{name}": value for name, value in said.items()})
    dataset = minari.create_dataset_from_buffers(
        folder.name, buffers, observation_space=bounds["state"], action_space=bounds["action"], data_format="hdf5",
        description=f"Recorded on robot {spec['name']!r}, control period {spec['period']} s.",
    )  # fmt: skip
    dataset.storage.update_metadata({SPEC_KEY: str(arrays["spec"])})
    dataset.storage.update_episode_metadata(metadata)


def buffer(minari: Any, arrays: Arrays, where: slice) -> Any:
    """One Minari episode."""
    count = where.stop - where.start
    ends = arrays["end_reason"][where] if "end_reason" in arrays else np.zeros(count, dtype=np.int64)
    infos: dict[str, Any] = {
        "step": np.append(arrays["step"][where], arrays["step"][where.stop - 1] + 1),
        "end_reason": np.insert(ends, 0, 0),
    }
    for name in COLUMNS:
        if name in arrays:
            infos[name] = np.append(arrays[name][where], arrays[f"next_{name}"][where.stop - 1])
    if "controller" in arrays:
        infos["controller"] = ["", *arrays["controller"][where].tolist()]
    # What goes on after it, in the recording or behind a gap, is cut off as far as Minari is concerned.
    last = np.arange(count) == count - 1
    return minari.data_collector.EpisodeBuffer(
        observations=np.concatenate([arrays["state"][where], arrays["next_state"][where][-1:]]),
        actions=arrays["action"][where],
        rewards=np.full(count, np.nan).tolist(),
        terminations=(ends == TERMINATED).tolist(),
        truncations=(last & (ends != TERMINATED)).tolist(),
        infos=infos,
    )


def read(folder: Path, file: str, given: str) -> None:
    """Reads the data set that is `folder`."""
    dataset = library(folder).load_dataset(folder.name)
    table = Table()
    metadata = dataset.storage.metadata
    sizes = (0, 0)
    said_of = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
    for episode, said in zip(dataset.iterate_episodes(), said_of, strict=True):
        states, actions = np.asarray(episode.observations, np.float64), np.asarray(episode.actions, np.float64)
        if states.ndim != 2 or actions.ndim != 2:
            raise ValueError(f"observations {states.shape} and actions {actions.shape}, expected one vector a step")
        sizes = (states.shape[1], actions.shape[1])
        table.add(part(episode, states, actions), int(said.get(f"{PREFIX}episode", episode.id)), {
            "outcome": int(said.get(f"{PREFIX}outcome", 0)), "discarded": bool(said.get(f"{PREFIX}discarded", False)),
            "task": str(said.get(f"{PREFIX}task", "")), "note": str(said.get(f"{PREFIX}note", "")),
        })  # fmt: skip
    table.save(file, robot(metadata.get(SPEC_KEY), given, sizes))


def part(episode: Any, states: np.ndarray, actions: np.ndarray) -> Arrays:
    """One run of transitions."""
    infos, count = episode.infos or {}, len(actions)
    ours = "step" in infos and len(infos["step"]) == count + 1
    end_reason = np.where(episode.terminations, 1, np.where(episode.truncations, 2, 0))
    found: Arrays = {
        "state": states[:-1], "action": actions, "next_state": states[1:],
        "step": infos["step"][:-1] if ours else np.arange(count),
        "end_reason": infos["end_reason"][1:] if ours else end_reason,
    }  # fmt: skip
    if ours:
        for name in COLUMNS:
            if name in infos:
                found |= {name: infos[name][:-1], f"next_{name}": infos[name][1:]}
        if "controller" in infos:
            found["controller"] = np.array([item.decode() for item in infos["controller"][1:]], dtype=np.str_)
    return found


def library(folder: Path) -> Any:
    """Minari, looking for data sets in the folder above. Raises ValueError on a name that it would not take."""
    if not re.fullmatch(r"[\w][\w-]*-v\d+", folder.name):
        raise ValueError(f"{folder.name!r}: expected a name such as arm-v0, Minari tells data sets by name and version")
    os.environ["MINARI_DATASETS_PATH"] = str(folder.parent)
    import minari  # type: ignore[import-not-found]

    return minari


if __name__ == "__main__":
    sys.exit(main(write, read))
