# SPDX-License-Identifier: Apache-2.0
"""Episodes of bags: gaps, labels, several bags, other robots, bags cut anywhere."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from example_bags import SPEC, Bag, episode

from mbrl_core.demonstrations import Demonstration, Outcome
from mbrl_core.messages import TimeStep
from mbrl_policy import bags
from mbrl_ros.bag_reading import BagError


def same(demonstration: Demonstration, steps: list[TimeStep]) -> None:
    assert demonstration.first_step == steps[0].step
    np.testing.assert_array_equal(demonstration.states, [step.state for step in steps])
    np.testing.assert_array_equal(demonstration.actions, [step.action for step in steps[1:]])


def test_gaps_split_an_episode_and_pair_no_wrong_action(tmp_path: Path) -> None:
    steps = episode(1, 20)
    steps[15] = dataclasses.replace(steps[15], action_valid=False)
    lost = [*steps[:6], *steps[7:]]
    Bag(tmp_path / "bag").steps(lost).close()
    demonstrations = bags.read_episodes(tmp_path / "bag")
    assert [(item.first_step, len(item), item.episode) for item in demonstrations] == [(0, 5, 1), (7, 7, 1), (15, 5, 1)]
    for item, part in zip(demonstrations, (steps[:6], steps[7:15], steps[15:]), strict=True):
        same(item, part)
    (recorded,) = bags.read_recording(tmp_path / "bag").episodes
    assert recorded.gaps == [(5, 7), (14, 15)]
    # What a learner hears and what a demonstration shows is the same.
    joined = bags.Demonstration.transitions
    together = [joined(item) for item in demonstrations]
    bags.check_same_transitions(bags.read_transitions(tmp_path / "bag"), type(together[0]).joined(together))


def test_a_beginning_that_is_missing_is_a_gap(tmp_path: Path) -> None:
    Bag(tmp_path / "bag").steps(episode(4, 10)[3:]).close()
    (recorded,) = bags.read_recording(tmp_path / "bag").episodes
    assert recorded.gaps == [(0, 3)]
    assert bags.read_episodes(tmp_path / "bag")[0].first_step == 3


def test_the_newest_label_counts_and_filters(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "bag")
    for number in (1, 2, 3, 4):
        bag.steps(episode(number, 5))
    bag.label(1, Outcome.FAILURE).label(2, Outcome.SUCCESS, task="reach", note="slow").label(1, Outcome.SUCCESS)
    bag.label(3, Outcome.SUCCESS, discarded=True).close()
    read = bags.read_episodes
    assert [(item.episode, item.outcome) for item in read(bag.path)] == [
        (1, Outcome.SUCCESS), (2, Outcome.SUCCESS), (4, Outcome.UNLABELLED),
    ]  # fmt: skip
    assert [item.episode for item in read(bag.path, outcome=Outcome.SUCCESS)] == [1, 2]
    assert [item.episode for item in read(bag.path, outcome=Outcome.SUCCESS, include_discarded=True)] == [1, 2, 3]
    (reach,) = read(bag.path, task="reach")
    assert (reach.episode, reach.task, reach.note) == (2, "reach", "slow")
    with pytest.raises(BagError, match="no episode is left: .*1 discarded, 2 success, 1 unlabelled; 0 fit"):
        read(bag.path, outcome=Outcome.FAILURE)


def test_a_label_is_of_the_episode_that_had_the_number_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = Bag(tmp_path / "bag").label(7, Outcome.FAILURE)  # of an episode that is not in the bag
    bag.steps(episode(1, 5)).label(1, Outcome.SUCCESS)
    bag.steps(episode(1, 6)).label(1, Outcome.FAILURE).close()  # robot_node was restarted and counts anew
    assert [(item.episode, len(item), item.outcome) for item in bags.read_episodes(bag.path)] == [
        (1, 5, Outcome.SUCCESS), (2, 6, Outcome.FAILURE),
    ]  # fmt: skip
    assert "1 labels of episodes that are not in the bag" in caplog.text


def test_several_bags_keep_their_episodes_apart(tmp_path: Path) -> None:
    Bag(tmp_path / "a").steps(episode(1, 5)).steps(episode(2, 6)).label(2, Outcome.SUCCESS).close()
    Bag(tmp_path / "b").steps(episode(1, 7)).steps(episode(2, 8)).label(1, Outcome.FAILURE).close()
    Bag(tmp_path / "c").steps(episode(9, 4)).close()
    found = bags.read_episodes([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert [(item.episode, len(item), int(item.outcome)) for item in found] == [
        (1, 5, 0), (2, 6, 1), (3, 7, 2), (4, 8, 0), (9, 4, 0),
    ]  # fmt: skip


def test_another_robot_is_refused_with_both_shown(tmp_path: Path) -> None:
    other = dataclasses.replace(SPEC, name="fast", period=0.01)
    Bag(tmp_path / "a").steps(episode(1, 5)).close()
    Bag(tmp_path / "b", other).steps(episode(1, 5)).close()
    with pytest.raises(BagError, match=r"(?s)'slide': period 0.02 s; states x \[m\], v.*'fast': period 0.01 s"):
        bags.read_episodes([tmp_path / "a", tmp_path / "b"])
    # Another name alone is no other robot.
    Bag(tmp_path / "c", dataclasses.replace(SPEC, name="twin")).steps(episode(1, 5)).close()
    assert len(bags.read_episodes([tmp_path / "a", tmp_path / "c"])) == 2


def test_two_robots_in_one_bag_are_not_mixed(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "bag").steps(episode(1, 5))
    bag.namespace = "/fleet/two"
    bag.spec().steps(episode(1, 5)).close()
    with pytest.raises(BagError, match="/fleet/one/robot_spec, /fleet/two/robot_spec; choose one by its namespace"):
        bags.read_episodes(bag.path)
    assert len(bags.read_recording(bag.path, "/fleet/two").episodes) == 1


def test_numbers_that_are_not_finite_cost_their_step_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps = episode(1, 12)
    steps[4] = dataclasses.replace(steps[4], state=np.array([np.nan, 0.0]))
    steps[9] = dataclasses.replace(steps[9], action=np.array([np.inf]))
    Bag(tmp_path / "bag").steps(steps).close()
    assert [(item.first_step, len(item)) for item in bags.read_episodes(tmp_path / "bag")] == [(0, 3), (5, 3), (10, 2)]
    assert "episode 1: 2 time steps with numbers that are not finite were left out" in caplog.text


def test_empty_episodes_are_passed_over_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = Bag(tmp_path / "bag").steps(episode(1, 5)[:1]).steps(episode(2, 5)[::2]).steps(episode(3, 5)).close()
    assert [item.episode for item in bags.read_episodes(bag.path)] == [3]
    assert "episode 1: 1 time steps, of which no two follow each other" in caplog.text
    assert "episode 2: 3 time steps, of which no two follow each other" in caplog.text
    Bag(tmp_path / "empty").close()
    with pytest.raises(BagError, match="no episode is left: .*none"):
        bags.read_episodes(tmp_path / "empty")


def test_a_bag_without_labels_stays_readable(tmp_path: Path) -> None:
    Bag(tmp_path / "bag", labels=False).steps(episode(1, 5)).close()
    (only,) = bags.read_episodes(tmp_path / "bag")
    assert only.outcome == Outcome.UNLABELLED


def test_missing_bags_are_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="nothing: there is no such bag"):
        bags.read_episodes(tmp_path / "nothing")
    with pytest.raises(BagError, match="at least one bag"):
        bags.read_episodes([])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "bag"
    bag = Bag(path)
    for number in (1, 2, 3):
        bag.steps(episode(number, 12)).label(number, Outcome.SUCCESS)
    bag.close()
    return path


def works(action: Callable[[], object], path: Path) -> bool:
    """Whether it does; where not, only an error that names the bag is allowed."""
    try:
        action()
    except BagError as error:
        if str(path) not in str(error):
            raise AssertionError(f"{error} does not name {path}") from error
        return False
    return True


def test_a_bag_cut_at_any_byte_is_recovered_or_refused(small: Path, tmp_path: Path) -> None:
    whole = (small / "bag.mcap").read_bytes()
    reference = [step.state.tobytes() for step in bags.read_time_steps(small)]
    random = np.random.default_rng(0)
    path = tmp_path / "bag"
    recovered = []
    for cut in sorted({0, 1, 8, len(whole) - 1, *random.integers(0, len(whole), 30).tolist()}):
        shutil.copytree(small, path)
        (path / "bag.mcap").write_bytes(whole[:cut])
        works(lambda: bags.read_episodes(path), path)
        states = []
        if works(lambda: bags.recover(path), path) and works(lambda: bags.read_time_steps(path), path):
            states = [step.state.tobytes() for step in bags.read_time_steps(path)]
        assert states == reference[: len(states)]
        recovered.append(len(states))
        shutil.rmtree(path)
    assert recovered == sorted(recovered)
    assert recovered[-1] == len(reference)


def test_metadata_cut_at_any_byte_is_read_or_refused(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    shutil.copytree(small, path)
    metadata = (small / "metadata.yaml").read_bytes()
    for cut in np.linspace(0, len(metadata) - 1, 20).astype(int):
        (path / "metadata.yaml").write_bytes(metadata[:cut])
        if works(lambda: bags.read_episodes(path), path):
            assert len(bags.read_episodes(path)) == 3
    bags.recover(path)
    assert len(bags.read_episodes(path)) == 3


def test_damage_in_the_middle_costs_its_chunk_only(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    shutil.copytree(small, path)
    content = bytearray((small / "bag.mcap").read_bytes())
    steps = bags.read_time_steps(small)
    place = content.index(steps[20].state.tobytes())
    # The head of the message's record: its operation code, then its length, which becomes nonsense.
    while not (content[place] == 5 and 100 < int.from_bytes(content[place + 1 : place + 9], "little") < 2000):
        place -= 1
    content[place + 1 : place + 9] = b"\xff" * 8
    (path / "bag.mcap").write_bytes(content)
    bags.recover(path)
    left = [step.state.tobytes() for step in bags.read_time_steps(path)]
    assert steps[20].state.tobytes() not in left
    assert set(left) < {step.state.tobytes() for step in steps}
    assert left[0] == steps[0].state.tobytes() and left[-1] == steps[-1].state.tobytes()


def test_what_cannot_be_recovered_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    path.mkdir()
    (path / "bag.mcap").write_bytes(b"not a bag at all")
    with pytest.raises(BagError, match="expected an MCAP file"):
        bags.recover(path)
    assert (path / "bag.mcap").read_bytes() == b"not a bag at all"
    assert [item.name for item in tmp_path.iterdir()] == ["bag"]


def test_stamps_are_kept(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "bag").steps(episode(1, 5), stamp=Time(sec=12, nanosec=34)).close()
    before = [(time, message.header.stamp.sec) for _, time, message in bag.read("time_step")]
    bags.recover(bag.path)
    assert [(time, message.header.stamp.sec) for _, time, message in bag.read("time_step")] == before
