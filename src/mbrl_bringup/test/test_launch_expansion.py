# SPDX-License-Identifier: Apache-2.0
"""The runner makes of every launch file what the real `ros2 launch` makes of it (tools/expand_launch.py)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stand_in_packages import make_prefix

from mbrl_bringup.launch_runner.expand import declared_arguments, expand
from mbrl_bringup.launch_runner.source import LaunchFileError

ROOT = Path(__file__).resolve().parents[3]
EXPANSIONS = sorted((Path(__file__).parent / "expansions").glob("*.json"))
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.yaml"))
LOG = Path("/tmp/log directory of this test")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that launch files need beyond those of the workspace, as the committed expansions were made with."""
    for name, value in make_prefix(tmp_path / "prefix").items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("file", EXPANSIONS, ids=lambda file: file.stem)
def test_runner_expands_like_the_real_launch(file: Path) -> None:
    case = json.loads(file.read_text())
    description = expand(ROOT / case["file"], case["arguments"], LOG)
    assert description.normal_form(LOG) == case["nodes"]
    # 1, 1.0 and true are equal in Python and different parameters in ROS.
    assert json.dumps(description.normal_form(LOG)) == json.dumps(case["nodes"])


def test_every_launch_file_has_a_committed_expansion() -> None:
    covered = {Path(json.loads(file.read_text())["file"]).name for file in EXPANSIONS}
    assert {file.name for file in LAUNCH_FILES} <= covered
    assert len(LAUNCH_FILES) >= 3


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_arguments_are_described_and_have_defaults(file: Path) -> None:
    arguments = declared_arguments(file, LOG)
    assert arguments
    for argument in arguments:
        assert argument.description, argument.name
        assert argument.default is not None, argument.name


@pytest.mark.parametrize("argument", ["planner", "dynamics", "algorithm"])
def test_choices_are_the_presets_that_exist(argument: str) -> None:
    folder = ROOT / "config" / {"algorithm": "algorithms"}.get(argument, argument)
    found = {entry.name: entry for entry in declared_arguments(ROOT / "launch" / "mbrl.launch.yaml", LOG)}
    assert set(found[argument].choices) == {file.stem for file in folder.glob("*.yaml")}


def test_a_value_outside_the_choices_names_them() -> None:
    with pytest.raises(
        LaunchFileError, match=r"mbrl\.launch\.yaml:\d+: .*'planner': got 'icme', expected one of .*icem"
    ):
        expand(ROOT / "launch" / "mbrl.launch.yaml", {"planner": "icme"}, LOG)


def test_an_argument_that_no_file_declares_is_refused() -> None:
    with pytest.raises(LaunchFileError, match=r"no launch argument 'robbot'; there are .*robot"):
        expand(ROOT / "launch" / "mbrl.launch.yaml", {"robbot": "cartpole"}, LOG)


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(LaunchFileError, match=r"mbrl\.launch\.yaml:\d+: the value 'many' is not of type int"):
        expand(ROOT / "launch" / "mbrl.launch.yaml", {"trials": "many"}, LOG)


def _includes(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if "include" in entry:
            yield entry["include"]
        yield from _includes(entry.get("group", []))


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.stem)
def test_what_an_included_file_declares_too_is_given_to_it(file: Path) -> None:
    """Arguments hold in included files: one of the same name that means something else would go in unasked."""
    own = {argument.name for argument in declared_arguments(file, LOG)}
    for include in _includes(yaml.safe_load(file.read_text())["launch"]):
        name = include["file"].removeprefix("$(dirname)/")
        declared = {argument.name for argument in declared_arguments(ROOT / "launch" / name, LOG)}
        given = {argument["name"] for argument in include["arg"]}
        assert own & declared <= given, f"{file.name} includes {name} without giving it all that both declare"
