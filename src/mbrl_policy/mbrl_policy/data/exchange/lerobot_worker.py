# SPDX-License-Identifier: Apache-2.0
"""Writes and reads LeRobot data sets (version 3), in an environment that has LeRobot.

A part of an episode without a gap is one LeRobot episode; a frame is a transition, with the state that it leads to as a
feature of its own. LeRobot counts time by frames a second: the recorded times are features, too.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from worker_files import COLUMNS, Arrays, Table, label, main, robot, runs  # type: ignore[import-not-found]

SPEC_FILE = "meta/robot_spec.json"
STATE, ACTION, NEXT = "observation.state", "action", "next.state"
NUMBERS = ("episode", "step", "end_reason", "outcome", "discarded", *COLUMNS, *(f"next_{name}" for name in COLUMNS))
TEXTS = ("controller", "note")


def write(arrays: Arrays, folder: Path) -> None:
    """Makes the data set `folder`."""
    spec = json.loads(str(arrays["spec"]))
    rate = 1.0 / spec["period"]
    if abs(rate - round(rate)) > 1e-6 * rate:
        raise ValueError(f"{rate:g} steps a second, expected a whole number: LeRobot counts time by frames")
    vector = {"dtype": "float64"}
    features: dict[str, Any] = {
        STATE: {**vector, "shape": (len(spec["state"]["names"]),), "names": spec["state"]["names"]},
        ACTION: {**vector, "shape": (len(spec["action"]["names"]),), "names": spec["action"]["names"]},
        NEXT: {**vector, "shape": (len(spec["state"]["names"]),), "names": spec["state"]["names"]},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }
    numbers = [name for name in NUMBERS if name in arrays or name in ("outcome", "discarded")]
    texts = [name for name in TEXTS if name in arrays or name == "note"]
    features |= {f"recorded.{name}": {"dtype": "int64", "shape": (1,), "names": None} for name in numbers}
    features |= {f"recorded.{name}": {"dtype": "string", "shape": (1,), "names": None} for name in texts}
    dataset = library().create(
        repo_id=f"local/{folder.name}", fps=round(rate), features=features, root=folder, robot_type=spec["name"],
        use_videos=False,
    )  # fmt: skip
    for where, place in runs(arrays):
        said = label(arrays, place)
        for index in range(where.start, where.stop):
            values = {**said, **{name: arrays[name][index] for name in (*numbers, *texts) if name in arrays}}
            dataset.add_frame(
                {
                    STATE: arrays["state"][index], ACTION: arrays["action"][index], NEXT: arrays["next_state"][index],
                    "next.done": np.array([index == where.stop - 1]), "task": said["task"],
                    **{f"recorded.{name}": np.array([values[name]], dtype=np.int64) for name in numbers},
                    **{f"recorded.{name}": str(values[name]) for name in texts},
                }
            )  # fmt: skip
        dataset.save_episode()
    dataset.finalize()
    (folder / SPEC_FILE).write_text(str(arrays["spec"]), encoding="utf-8")


def read(folder: Path, file: str, given: str) -> None:
    """Reads the data set that is `folder`."""
    dataset = library()(repo_id=f"local/{folder.name}", root=folder)
    # As they are in the files: other formats of the library hand out single precision.
    rows = dataset.hf_dataset.with_format("arrow")[:].to_pydict()
    for name in (STATE, ACTION):
        if name not in rows or vectors(rows, name).ndim != 2:
            raise ValueError(f"expected a feature {name!r} of one vector a frame; there are {', '.join(sorted(rows))}")
    tasks = {int(row.task_index): str(name) for name, row in dataset.meta.tasks.iterrows()}
    table = Table()
    index = np.asarray(rows["episode_index"]).ravel()
    for number in np.unique(index):
        frames = np.flatnonzero(index == number)
        part, said = run(rows, frames)
        said["task"] = tasks[int(np.asarray(rows["task_index"])[frames[0]])]
        if len(part["action"]):
            table.add(part, int(part.pop("recorded_episode", np.array([number]))[0]), said)
    spec_file = folder / SPEC_FILE
    text = spec_file.read_text("utf-8") if spec_file.is_file() else None
    sizes = (vectors(rows, STATE).shape[1], vectors(rows, ACTION).shape[1])
    table.save(file, robot(text, given, sizes))


def vectors(rows: dict[str, Any], name: str) -> np.ndarray:
    """A feature [frames, size]; LeRobot keeps vectors of one number as numbers."""
    values = np.asarray(rows[name], dtype=np.float64)
    return values[:, None] if values.ndim == 1 else values


def run(rows: dict[str, Any], frames: np.ndarray) -> tuple[Arrays, dict[str, Any]]:
    """One run of transitions; the last frame of another's episode has no state after it."""

    def column(name: str) -> np.ndarray:
        return np.asarray(rows[name])[frames]

    states, actions = vectors(rows, STATE)[frames], vectors(rows, ACTION)[frames]
    if NEXT not in rows:
        count = len(frames) - 1
        found: Arrays = {
            "state": states[:-1],
            "action": actions[:-1],
            "next_state": states[1:],
            "step": np.arange(count),
        }
        return found, {"outcome": 0, "discarded": False, "note": ""}
    found = {"state": states, "action": actions, "next_state": vectors(rows, NEXT)[frames]}
    numbers = {name: column(f"recorded.{name}").ravel() for name in NUMBERS if f"recorded.{name}" in rows}
    texts = {name: column(f"recorded.{name}").astype(np.str_) for name in TEXTS if f"recorded.{name}" in rows}
    said = {
        "outcome": int(numbers.pop("outcome")[0]), "discarded": bool(numbers.pop("discarded")[0]),
        "note": str(texts.pop("note")[0]),
    }  # fmt: skip
    found["recorded_episode"] = numbers.pop("episode")
    return {**found, **numbers, **texts}, said


def library() -> Any:
    """LeRobot's class of data sets."""
    import torch

    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except RuntimeError:
        # Its compiled operators are for another build of torch. No image is in these data sets: their names will do.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # type: ignore[import-not-found]

    return LeRobotDataset


if __name__ == "__main__":
    sys.exit(main(write, read))
