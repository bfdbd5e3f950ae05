# SPDX-License-Identifier: Apache-2.0
"""Bags without a node: transitions read back, torn files recovered, full disks survived, differences found."""

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from example_bags import QOS, SPEC, episode
from rclpy.serialization import serialize_message

from mbrl_core.dataset import TransitionAssembler, Transitions
from mbrl_core.messages import TimeStep
from mbrl_policy import bags
from mbrl_policy.bag_writer import BagWriter, WholeWriteFile
from mbrl_ros.bag_reading import collect
from mbrl_ros.conversions import spec_to_message, time_step_to_message


def write(path: Path, steps: list[TimeStep], close: bool = True) -> BagWriter:
    writer = BagWriter(path)
    spec_topic = writer.add_topic("/fleet/one/robot_spec", "mbrl_msgs/msg/RobotSpec", QOS)
    step_topic = writer.add_topic("/fleet/one/time_step", "mbrl_msgs/msg/TimeStep", QOS)
    writer.write(spec_topic, 5, serialize_message(spec_to_message(SPEC, Time())))
    for index, step in enumerate(steps):
        message = time_step_to_message(step, SPEC.interface_hash, Time())
        # The clock steps back in the middle: the order of reception has to stay.
        writer.write(step_topic, 1_000 + index if index < 10 else 500 + index, serialize_message(message))
        if index % 7 == 0:
            writer.flush()
    if close:
        writer.close()
    return writer


def expected(steps: list[TimeStep]) -> Transitions:
    assembler = TransitionAssembler()
    return collect([item for step in steps if (item := assembler.add(step)) is not None], SPEC)


def test_transitions_come_back_bit_by_bit(tmp_path: Path) -> None:
    steps = episode(1, 20) + episode(2, 15)
    del steps[5]  # a lost message costs two transitions here: the one that ends there and the one that starts
    write(tmp_path / "bag", steps)
    recorded = bags.read_transitions(tmp_path / "bag")
    assert len(recorded) == 20 - 2 + 15
    bags.check_same_transitions(recorded, expected(steps))
    assert bags.read_spec(tmp_path / "bag").interface_hash == SPEC.interface_hash


def test_any_difference_is_found(tmp_path: Path) -> None:
    used = expected(episode(1, 8))
    write(tmp_path / "bag", episode(1, 8))
    recorded = bags.read_transitions(tmp_path / "bag")
    action = used.action.copy()
    action[3] = np.nextafter(action[3], 2.0)
    with pytest.raises(bags.BagError, match="transition 3: action"):
        bags.check_same_transitions(recorded, dataclasses.replace(used, action=action))
    with pytest.raises(bags.BagError, match="8 transitions in the bag, 7"):
        bags.check_same_transitions(recorded, used.select(np.arange(7)))


def test_an_unfinished_bag_is_named_and_recovered(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    steps = episode(1, 30)
    write(path, steps, close=False)  # as if killed: messages up to the last flush are in the file
    with pytest.raises(bags.BagError, match="recover"):
        bags.read_transitions(path)
    # A torn record at the end, as after a power cut.
    with open(path / "bag.mcap", "ab") as stream:
        stream.write(b"\x06\x00\x10\x00\x00\x00\x00\x00\x00torn")
    assert bags.recover(path) == 1 + 29
    bags.check_same_transitions(bags.read_transitions(path), expected(steps[:29]))
    assert [item.name for item in tmp_path.iterdir()] == ["bag"]


def test_missing_topics_are_named(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.add_topic("/task", "mbrl_msgs/msg/Task", QOS)
    writer.close()
    with pytest.raises(bags.BagError, match=r"expected a topic 'robot_spec'; recorded: /task"):
        bags.read_transitions(tmp_path / "bag")
    with pytest.raises(bags.BagError, match="expected one .mcap"):
        bags.recover(tmp_path)


def test_a_commit_is_whole_or_nothing(tmp_path: Path) -> None:
    script = f"""
        import resource
        from pathlib import Path
        from mbrl_policy.bag_writer import WholeWriteFile
        file = WholeWriteFile(Path({str(tmp_path / "file")!r}))
        file.write(b"first")
        file.commit()
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, resource.RLIM_INFINITY))
        file.write(b"second")
        try:
            file.commit()
        except OSError as error:
            print("refused", error.errno, file.tell())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path({str(tmp_path / "between")!r}).write_bytes(Path({str(tmp_path / "file")!r}).read_bytes())
        file.close()
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["refused", "27", "11"]
    assert (tmp_path / "between").read_bytes() == b"first"
    assert (tmp_path / "file").read_bytes() == b"firstsecond"


def test_names_are_never_taken_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        WholeWriteFile(tmp_path / "file")
