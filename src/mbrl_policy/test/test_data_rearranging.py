# SPDX-License-Identifier: Apache-2.0
"""Merging and splitting bags: nothing is lost, nothing is mixed up, the originals stay as they are."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from example_bags import START_NS, Bag, episode
from mcap.reader import make_reader
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader

from mbrl_core.demonstrations import Outcome
from mbrl_msgs.msg import Plan
from mbrl_policy import bags
from mbrl_policy.data.copying import read_raw
from mbrl_policy.data.rearranging import merge, split
from mbrl_ros.bag_reading import BagError, read_stamped

LATER = START_NS + 3_600_000_000_000


def digest(path: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(path.iterdir()))).hexdigest()


def demonstrations(*paths: Path) -> list[tuple[int, int, Outcome, bytes, bytes]]:
    found = bags.read_episodes(paths, include_discarded=True)
    return sorted(
        (item.episode, item.first_step, item.outcome, item.states.tobytes(), item.actions.tobytes()) for item in found
    )


def plans_of(path: Path) -> set[int]:
    """Episodes that the plans in a bag are of, as a node that hears them reads them."""
    contents = [content for _, item, _, content in read_raw(path) if item.topic.endswith("/plan")]
    plans = [deserialize_message(content, Plan) for content in contents]
    assert all(list(plan.actions) == [0.5] and plan.predicted_return == 7.0 for plan in plans)
    return {plan.episode for plan in plans}


def pair(tmp_path: Path, start: int = LATER, namespace: str = "/fleet/one") -> tuple[Path, Path]:
    steps = episode(2, 9)
    del steps[4]
    first = Bag(tmp_path / "a").steps(episode(1, 5)).steps(steps).label(2, Outcome.SUCCESS, note="gap")
    second = Bag(tmp_path / "b", start=start, namespace=namespace).steps(episode(1, 7)).steps(episode(2, 8))
    second.label(1, Outcome.FAILURE).label(2, Outcome.SUCCESS, discarded=True)
    return first.close().path, second.close().path


@pytest.mark.parametrize("start", [LATER, START_NS + 7], ids=["one after the other", "at the same time"])
def test_merged_bags_are_what_they_were_apart(tmp_path: Path, start: int) -> None:
    first, second = pair(tmp_path, start)
    before = digest(first), digest(second)
    assert merge([first, second], tmp_path / "merged") == []
    assert demonstrations(tmp_path / "merged") == demonstrations(first, second)
    assert (digest(first), digest(second)) == before
    # Plans follow their episodes; times of reception and bytes that name no episode are the same.
    assert plans_of(tmp_path / "merged") == {1, 2, 3, 4}
    times = [time for path in (first, second) for _, time, _ in read_stamped(path, ("time_step",))]
    assert [time for _, time, _ in read_stamped(tmp_path / "merged", ("time_step",))] == sorted(times)
    transitions = bags.read_transitions(tmp_path / "merged")
    assert len(transitions) == sum(len(bags.read_transitions(path)) for path in (first, second))


def test_other_namespaces_move_into_the_first(tmp_path: Path) -> None:
    first, second = pair(tmp_path, namespace="/fleet/two")
    merge([first, second], tmp_path / "merged")
    assert demonstrations(tmp_path / "merged") == demonstrations(first, second)


def test_merging_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    first, second = pair(tmp_path)
    with pytest.raises(BagError, match="two or more different bags"):
        merge([first, tmp_path / "." / "a"], tmp_path / "merged")
    with pytest.raises(BagError, match="exists already"):
        merge([first, second], second)
    with pytest.raises(BagError, match="no such bag"):
        merge([first, tmp_path / "nothing"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_split_takes_whole_episodes_and_what_was_latched(tmp_path: Path) -> None:
    first, second = pair(tmp_path)
    merge([first, second], tmp_path / "merged")
    before = digest(tmp_path / "merged")
    chosen = split(tmp_path / "merged", tmp_path / "part", lambda item: item.number in (2, 3))
    assert [item.number for item in chosen] == [2, 3]
    assert digest(tmp_path / "merged") == before
    whole = demonstrations(tmp_path / "merged")
    assert demonstrations(tmp_path / "part") == [item for item in whole if item[0] in (2, 3)]
    assert plans_of(tmp_path / "part") == {2, 3}
    successes = split(tmp_path / "merged", tmp_path / "good", lambda item: item.label.outcome == Outcome.SUCCESS)
    assert [item.number for item in successes] == [2, 4]
    with pytest.raises(BagError, match="no episode fits what was asked for; episodes in it: 1, 2, 3, 4"):
        split(tmp_path / "merged", tmp_path / "none", lambda item: False)


def test_split_and_merged_again_is_the_same(tmp_path: Path) -> None:
    first, _ = pair(tmp_path)
    for number in (1, 2):
        split(first, tmp_path / str(number), lambda item, number=number: item.number == number)
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "again")
    assert demonstrations(tmp_path / "again") == demonstrations(first)


def test_results_open_with_the_usual_libraries(tmp_path: Path) -> None:
    first, second = pair(tmp_path)
    merge([first, second], tmp_path / "merged")
    with AnyReader([tmp_path / "merged"]) as reader:
        counted = sum(1 for _ in reader.messages())
        assert counted == reader.message_count
    with open(tmp_path / "merged" / "merged.mcap", "rb") as stream:
        records = list(make_reader(stream, validate_crcs=True).iter_messages())
    assert len(records) == counted
    assert np.all(np.diff([message.log_time for _, _, message in records]) >= 0)


def test_a_disk_that_fills_up_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mbrl_policy.data.copying.CopyWriter.write", full)
    with pytest.raises(OSError, match="No space left"):
        merge([first, second], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
