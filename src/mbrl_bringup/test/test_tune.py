# SPDX-License-Identifier: Apache-2.0
"""`./mbrl tune planner`, measured on this machine, and the launch file that takes what it writes."""

import json
from pathlib import Path

import pytest
import yaml

from mbrl_bringup import cli
from mbrl_planner.tuning import same_kind

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MBRL_ROOT", str(ROOT))
    monkeypatch.chdir(tmp_path)


def test_a_preset_for_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A generous share of the period: the machine that runs the tests may be busy.
    arguments = ["tune", "planner", "--robot", "reacher", "--planner", "mppi", "--plans", "3"]
    arguments += ["--dynamics", "linear", "--while-training"]
    assert cli.main([*arguments, "--deadline-fraction", "5"]) == 0
    path = tmp_path / "mppi_reacher.yaml"
    output = capsys.readouterr().out
    command = output.splitlines()[-1]
    assert "12 steps ahead" in output  # config/tuning/reacher.yaml counts
    assert command.startswith("./mbrl launch mbrl.launch.yaml robot:=reacher planner:=mppi")
    written = yaml.safe_load(path.read_text())["/**/planner"]["ros__parameters"]["planner"]
    preset = yaml.safe_load((ROOT / "config/planner/mppi.yaml").read_text())["/**"]["ros__parameters"]["planner"]
    kind, config = same_kind(preset, written)
    assert kind == "mppi" and config.particles % 5 == 0
    assert (config.iterations, config.population_size) == (written["iterations"], written["population_size"])
    assert cli.main(["launch", "--print-description", *command.split()[2:]]) == 0
    nodes = {node["name"]: node for node in json.loads(capsys.readouterr().out)}
    assert str(path) in json.dumps(nodes["planner"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--planner", "telepathy"], "there is no planner preset 'telepathy', expected one of cem"),
        (["--robot", "golem"], "unknown robot 'golem'"),
        (["--dynamics", "magic"], "there is no dynamics preset 'magic'"),
        (["--margin", "7"], "--margin 7"),
    ],
)
def test_what_does_not_exist_is_named(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", "planner", *arguments]) == 1
    assert text in capsys.readouterr().err
