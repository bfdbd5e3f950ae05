# SPDX-License-Identifier: Apache-2.0
"""Transitions of whatever a user has: a bag of this suite, one of another recorder, or a file of arrays."""

from pathlib import Path

from mbrl_core.dataset import Transitions
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import RobotSpec
from mbrl_core.transition_file import TransitionFileError, load_transitions
from mbrl_ros.bag_reading import BagError, open_bag, read_spec, read_transitions
from mbrl_ros.foreign_bag import read_foreign_transitions

RUN_BAG = "bag"


def read_any_transitions(path: str | Path, spec: RobotSpec, robot_file: str = "") -> Transitions:
    """Transitions of the robot `spec` in a .npz file of transitions, a bag, or the folder of a run that has one.

    A bag without time steps needs the robot file. Raises BagError on what cannot be read or is of another robot.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        try:
            return load_transitions(path, spec).transitions
        except TransitionFileError as error:
            raise BagError(str(error)) from None
    if (path / RUN_BAG).is_dir() and not list(path.glob("*.mcap")):
        path = path / RUN_BAG
    with open_bag(path) as reader:
        own = any(item.topic.rpartition("/")[2] == "time_step" for item in reader.connections)
    if own:
        recorded = read_spec(path)
        if recorded.interface_hash != spec.interface_hash:
            raise BagError(
                f"{path}: of robot {recorded.name!r}, interface {recorded.interface_hash[:12]!r}, expected"
                f" {spec.name!r}, {spec.interface_hash[:12]!r}"
            )
        return read_transitions(path)
    if not robot_file:
        raise BagError(f"{path}: expected a topic 'time_step' or, with a robot file, joint states; got no robot file")
    try:
        robot = load_robot(robot_file)
    except (OSError, ValueError) as error:
        raise BagError(f"{path}: robot file: {error}") from None
    if robot.spec.interface_hash != spec.interface_hash:
        raise BagError(f"{path}: the robot file {robot_file} describes {robot.spec.name!r}, expected {spec.name!r}")
    return read_foreign_transitions(path, robot)
