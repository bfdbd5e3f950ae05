# SPDX-License-Identifier: Apache-2.0
"""Round trips through the libraries of other data sets, where their environment has been made."""

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from example_bags import SPEC, Bag, episode

from mbrl_core.demonstrations import Outcome
from mbrl_core.library_environment import clean_variables
from mbrl_core.transition_file import TransitionFile
from mbrl_policy import bags
from mbrl_policy.data.exchange import FORMATS, ExchangeError, dataset_python, read_dataset, write_dataset
from mbrl_policy.data.tables import to_bag, to_table

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return dataset_python(ROOT, make=False)
    except ExchangeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    steps = episode(3, 12)
    del steps[5]
    steps[9] = dataclasses.replace(steps[9], action_valid=False)
    made = Bag(tmp_path_factory.mktemp("bag") / "bag").steps(episode(1, 6)).steps(steps).steps(episode(7, 4))
    made.label(1, Outcome.SUCCESS, task="reach", note="über ‘all’").label(7, Outcome.FAILURE, discarded=True)
    return made.close().path


@pytest.fixture(scope="module")
def table(bag: Path) -> TransitionFile:
    recording = bags.read_recording(bag)
    return to_table(recording.spec, recording.episodes)


def same(first: TransitionFile, second: TransitionFile) -> None:
    assert first.spec == second.spec
    for name in ("state", "action", "next_state", "episode", "step"):
        np.testing.assert_array_equal(getattr(first.transitions, name), getattr(second.transitions, name), name)
    assert set(first.extra) == set(second.extra)
    for name, values in first.extra.items():
        assert values.tolist() == second.extra[name].tolist(), name


def ask(python: Path, program: str, *arguments: str) -> dict:
    """What a program says in the libraries' environment, as their users would write it."""
    command = [str(python), "-c", program, *arguments]
    done = subprocess.run(command, env={**clean_variables(), "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_table_becomes_a_bag_again(bag: Path, table: TransitionFile, tmp_path: Path) -> None:
    to_bag(table, tmp_path / "again")
    recording = bags.read_recording(tmp_path / "again")
    same(to_table(recording.spec, recording.episodes), table)
    for before, after in zip(bags.read_recording(bag).episodes, recording.episodes, strict=True):
        assert (before.label, before.end_reason, before.gaps) == (after.label, after.end_reason, after.gaps)
    with pytest.raises(bags.BagError, match="exists already"):
        to_bag(table, tmp_path / "again")
    with pytest.raises(bags.BagError, match="transitions without stamp_ns"):
        to_bag(dataclasses.replace(table, extra={}), tmp_path / "bare")


@pytest.mark.parametrize("kind", FORMATS)
def test_round_trip_loses_nothing(kind: str, python: Path, table: TransitionFile, tmp_path: Path) -> None:
    write_dataset(kind, table, tmp_path / "slide-v0", python)
    same(read_dataset(kind, tmp_path / "slide-v0", python), table)
    with pytest.raises(ExchangeError, match="exists already"):
        write_dataset(kind, table, tmp_path / "slide-v0", python)


@pytest.mark.parametrize("kind", FORMATS)
def test_transitions_without_times_and_labels_pass(
    kind: str, python: Path, table: TransitionFile, tmp_path: Path
) -> None:
    bare = dataclasses.replace(table, extra={})
    write_dataset(kind, bare, tmp_path / "slide-v0", python)
    read = read_dataset(kind, tmp_path / "slide-v0", python)
    np.testing.assert_array_equal(read.transitions.next_state, bare.transitions.next_state)
    np.testing.assert_array_equal(read.transitions.step, bare.transitions.step)


def test_minari_users_find_what_they_expect(python: Path, table: TransitionFile, tmp_path: Path) -> None:
    write_dataset("minari", table, tmp_path / "slide-v0", python)
    program = """
import json, os, sys
os.environ["MINARI_DATASETS_PATH"] = sys.argv[1]
import minari
dataset = minari.load_dataset("slide-v0")
print(json.dumps({
    "lengths": [len(item) for item in dataset.iterate_episodes()],
    "observations": [item.observations.shape for item in dataset.iterate_episodes()],
    "truncated": [bool(item.truncations[-1]) for item in dataset.iterate_episodes()],
    "spaces": [dataset.observation_space.shape, dataset.action_space.shape],
    "total": int(dataset.total_steps),
}))"""
    # Episode 3 has a gap between steps 4 and 6, and one between 9 and 10.
    assert ask(python, program, str(tmp_path)) == {
        "lengths": [6, 4, 3, 2, 4], "observations": [[7, 2], [5, 2], [4, 2], [3, 2], [5, 2]], "truncated": [True] * 5,
        "spaces": [[2], [1]], "total": 19,
    }  # fmt: skip


def test_lerobot_users_find_what_they_expect(python: Path, table: TransitionFile, tmp_path: Path) -> None:
    write_dataset("lerobot", table, tmp_path / "slide-v0", python)
    program = """
import json, sys
sys.path.insert(0, sys.argv[2])
from lerobot_worker import library
dataset = library()(repo_id="local/slide", root=sys.argv[1])
item = dataset[7]
print(json.dumps({
    "fps": dataset.fps, "episodes": dataset.num_episodes, "frames": dataset.num_frames, "task": dataset[0]["task"],
    "state": item["observation.state"].tolist(), "robot": dataset.meta.robot_type,
}))"""
    folder = ROOT / "src/mbrl_policy/mbrl_policy/data/exchange"
    # The library hands out single precision of what is double in its files.
    state = table.transitions.state[7].astype(np.float32).tolist()
    assert ask(python, program, str(tmp_path / "slide-v0"), str(folder)) == {
        "fps": 50, "episodes": 5, "frames": 19, "task": "reach", "state": state, "robot": "slide",
    }  # fmt: skip


def test_a_foreign_minari_data_set_needs_a_robot(python: Path, tmp_path: Path) -> None:
    program = """
import json, os, sys
os.environ["MINARI_DATASETS_PATH"] = sys.argv[1]
import gymnasium, minari, numpy as np
buffer = minari.data_collector.EpisodeBuffer(
    observations=np.arange(8.0).reshape(4, 2).astype(np.float32), actions=np.zeros((3, 1)), rewards=[1.0] * 3,
    terminations=[False] * 3, truncations=[False, False, True],
)
box = gymnasium.spaces.Box(-1.0, 1.0, (2,)), gymnasium.spaces.Box(-1.0, 1.0, (1,))
minari.create_dataset_from_buffers("other-v2", [buffer], observation_space=box[0], action_space=box[1])
print(json.dumps({}))"""
    ask(python, program, str(tmp_path))
    with pytest.raises(ExchangeError, match="does not say of which robot it is, expected a robot file"):
        read_dataset("minari", tmp_path / "other-v2", python)
    read = read_dataset("minari", tmp_path / "other-v2", python, SPEC)
    np.testing.assert_array_equal(read.transitions.next_state, np.arange(8.0).reshape(4, 2)[1:])
    names = ("interfaces", "units", "lower", "upper", "scale", "slew")
    twice = {name: 2 * getattr(SPEC.action, name) for name in names}
    wide = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, names=("x", "y"), **twice))
    with pytest.raises(ExchangeError, match="2 observed and 1 action variables, expected 2 and 2 of robot 'slide'"):
        read_dataset("minari", tmp_path / "other-v2", python, wide)


def test_what_the_formats_cannot_hold_is_said(python: Path, table: TransitionFile, tmp_path: Path) -> None:
    odd = dataclasses.replace(table, spec=dataclasses.replace(SPEC, period=0.03))
    with pytest.raises(ExchangeError, match="33.3333 steps a second, expected a whole number"):
        write_dataset("lerobot", odd, tmp_path / "slide", python)
    with pytest.raises(ExchangeError, match="expected a name such as arm-v0"):
        write_dataset("minari", table, tmp_path / "slide", python)
    with pytest.raises(ExchangeError, match="expected the folder of a lerobot data set"):
        read_dataset("lerobot", tmp_path / "nothing", python)
    (tmp_path / "empty-v0").mkdir()
    for kind in FORMATS:
        with pytest.raises(ExchangeError, match=f"{kind}: "):
            read_dataset(kind, tmp_path / "empty-v0", python)
