# SPDX-License-Identifier: Apache-2.0
"""Recordings into other formats and back: what `./mbrl bag convert` does."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mbrl_bringup.cli.places import root
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.transition_file import TransitionFile, load_transitions, save_transitions
from mbrl_policy.data.episodes import Episode, Recording, read_recording
from mbrl_policy.data.exchange import dataset_python, read_dataset, write_dataset
from mbrl_policy.data.tables import to_bag, to_table
from mbrl_ros.bag_reading import BagError, open_bag
from mbrl_ros.foreign_bag import read_foreign_transitions

Choose = Callable[[Recording], list[Episode]]


def convert(
    inputs: Sequence[Path], source: str, output: Path, target: str, robot: str | None, choose: Choose
) -> list[str]:
    """Reads `inputs` as `source` and writes `output` as `target`: bag, npz, minari or lerobot. Returns remarks.

    `robot` is a robot file or the name of one, for what does not say itself of which robot it is. Raises BagError,
    TransitionFileError or ExchangeError.
    """
    if source != "bag" and len(inputs) != 1:
        raise BagError(f"expected one {source} data set, got {len(inputs)}: bags alone are put together")
    if output.exists():
        raise BagError(f"{output}: exists already, nothing is written over it")
    known = _robot(robot) if robot else None
    remarks: list[str] = []
    content = _read(inputs, source, known, choose, remarks)
    if target == "npz":
        save_transitions(output, content)
    elif target == "bag":
        to_bag(content, output)
    else:
        write_dataset(target, content, output, dataset_python(root()))
    return remarks


def _read(
    inputs: Sequence[Path], source: str, robot: Robot | None, choose: Choose, remarks: list[str]
) -> TransitionFile:
    if source == "npz":
        return load_transitions(inputs[0])
    if source != "bag":
        return read_dataset(source, inputs[0], dataset_python(root()), robot.spec if robot else None)
    if robot is not None and not _has_time_steps(inputs[0]):
        if len(inputs) != 1:
            raise BagError(f"expected one bag of joint states, got {len(inputs)}")
        return TransitionFile(robot.spec, read_foreign_transitions(inputs[0], robot))
    recording = read_recording(inputs)
    remarks += recording.remarks
    return to_table(recording.spec, choose(recording))


def _has_time_steps(path: Path) -> bool:
    with open_bag(path) as reader:
        return any(item.topic.rpartition("/")[2] == "time_step" for item in reader.connections)


def _robot(name: str) -> Robot:
    path = Path(name)
    return load_robot(path if path.suffix else root() / "config" / "robots" / f"{name}.yaml")
