# SPDX-License-Identifier: Apache-2.0
"""`./mbrl bag` from the command line on, on small bags."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "src" / "mbrl_policy" / "test"))

from example_bags import SPEC, Bag, episode  # noqa: E402

from mbrl_bringup import cli  # noqa: E402
from mbrl_core.demonstrations import Outcome  # noqa: E402
from mbrl_core.transition_file import load_transitions  # noqa: E402
from mbrl_policy import bags  # noqa: E402


@pytest.fixture
def bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MBRL_ROOT", str(ROOT))
    steps = episode(2, 9)
    del steps[4]
    made = Bag(tmp_path / "run" / "bag").steps(episode(1, 5)).steps(steps).steps(episode(3, 4))
    made.label(1, Outcome.SUCCESS, task="reach", note="slow").label(3, Outcome.FAILURE, discarded=True).close()
    return made.path


def mbrl(*arguments: object) -> int:
    return cli.main(["bag", *map(str, arguments)])


def test_info_tells_robot_topics_episodes_and_statistics(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mbrl("info", bag.parent, "--plot", bag.parent / "picture.png") == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert ["/fleet/one/time_step", "mbrl_msgs/msg/TimeStep", "20"] in rows
    assert "'slide': period 0.02 s; states x [m], v [m/s]; actions x effort [N]" in text
    assert ["1", "5", "0.10", "0", "time_limit", "-", "success", "reach", "planner", "slow"] in rows
    assert ["2", "7", "0.18", "1", "time_limit", "-", "unlabelled", "planner"] in rows
    assert ["3", "4", "0.08", "0", "time_limit", "-", "failure", "planner", "yes"] in rows
    # Statistics are of what a data set would have: without the discarded episode.
    states = np.concatenate([item.states for item in bags.read_episodes(bag)])
    assert next(row for row in rows if row[:2] == ["x", "m"])[2:6] == [
        f"{value:.4g}" for value in (states[:, 0].mean(), states[:, 0].std(), states[:, 0].min(), states[:, 0].max())
    ]
    assert (bag.parent / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_filters_hold_for_statistics(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mbrl("info", bag, "--outcome", "failure") == 1
    assert "no episode is left: " in capsys.readouterr().err
    assert mbrl("info", bag, "--outcome", "failure", "--discarded") == 0


def test_view_shows_steps_and_gaps(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mbrl("view", bag, "--episode", 2, "--plot", bag.parent / "two.png") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    steps = episode(2, 9)
    place = next(index for index, row in enumerate(rows) if row and row[0] == "...")
    assert rows[place][-2:] == ["1", "lost"] and rows[place - 1][0] == "3" and rows[place + 1][0] == "5"
    expected = [f"{value:.5g}" for value in (*steps[5].state, *steps[5].action)]
    assert rows[place + 1][2:5] == expected
    assert (bag.parent / "two.png").exists()
    assert mbrl("view", bag, "--episode", 2, "--first", 6, "--count", 2) == 0
    assert [row[0] for row in map(str.split, capsys.readouterr().out.splitlines()[2:])] == ["6", "7"]
    assert mbrl("view", bag, "--episode", 8) == 1
    assert "there is no episode 8; there are 1, 2, 3" in capsys.readouterr().err


def test_split_merge_and_recover(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mbrl("split", bag, "--episodes", "2-3", "--output", tmp_path / "late") == 0
    assert mbrl("split", bag, "--outcome", "success", "--output", tmp_path / "good") == 0
    assert mbrl("merge", tmp_path / "good", tmp_path / "late", "--output", tmp_path / "all") == 0
    assert [item.number for item in bags.read_recording(tmp_path / "all").episodes] == [1, 2, 3]
    (tmp_path / "all" / "metadata.yaml").unlink()
    capsys.readouterr()
    assert mbrl("info", tmp_path / "all") == 1
    assert "`./mbrl bag recover" in capsys.readouterr().err
    assert mbrl("recover", tmp_path / "all") == 0
    assert mbrl("info", tmp_path / "all") == 0
    assert mbrl("split", bag, "--episodes", "2-x", "--output", tmp_path / "none") == 1
    assert "--episodes 2-x: expected numbers and ranges such as 1,4-6" in capsys.readouterr().err


def test_convert_to_transitions_and_back(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mbrl("convert", bag, "--discarded", "--output", tmp_path / "data.npz") == 0
    table = load_transitions(tmp_path / "data.npz", SPEC)
    bags.check_same_transitions(bags.read_transitions(bag), table.transitions)
    assert mbrl("convert", tmp_path / "data.npz", "--output", tmp_path / "again") == 0
    assert mbrl("convert", tmp_path / "again", "--discarded", "--output", tmp_path / "again.npz") == 0
    again = load_transitions(tmp_path / "again.npz", SPEC)
    assert {name: values.tolist() for name, values in again.extra.items()} == {
        name: values.tolist() for name, values in table.extra.items()
    }
    capsys.readouterr()
    assert mbrl("convert", bag, "--output", tmp_path / "data.npz") == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["info", "nothing"], "nothing: there is no such bag"),
        (["convert", "nothing.npz", "--output", "x"], "nothing.npz"),
        (["merge", "nothing", "--output", "x"], "two or more different bags"),
    ],
)
def test_errors_are_one_line_that_names_the_cause(
    bag: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mbrl(*arguments) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"mbrl bag {arguments[0]}: ") and expected in error and "Traceback" not in error
