# SPDX-License-Identifier: Apache-2.0
"""docs/hardware.md: its commands are valid, its files are read, its checks are those that there are."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from ros2_control_stand_in.prefix import make_prefix

from mbrl_bringup import cli
from mbrl_bringup.cli import robot
from mbrl_bringup.launch_runner.expand import expand
from mbrl_core.config import describe
from mbrl_core.robot_file import load_robot
from mbrl_robot.nodes.hardware_node import HardwareConfiguration
from mbrl_robot.readiness import Checks, Demands, Observation

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def _commands() -> list[list[str]]:
    lines = [line for block in _blocks("sh") for line in block.splitlines() if line.strip()]
    return [words for line in lines if (words := shlex.split(line, comments=True))[0] == "./mbrl"]


@pytest.fixture(autouse=True)
def _packages_of_ros2_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in make_prefix(tmp_path / "prefix").items():
        monkeypatch.setenv(name, value)


def test_the_guide_has_all_the_steps() -> None:
    words = [" ".join(command[1:3]) for command in _commands()]
    for wanted in ("launch hardware.launch.yaml", "launch record.launch.yaml", "launch mbrl.launch.yaml",
                   "robot confirm", "robot stop", "teleop", "doctor"):  # fmt: skip
        assert wanted in words, words


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_of_it_is_valid(command: list[str], tmp_path: Path) -> None:
    name, *words = command[1:]
    assert name in cli.COMMANDS
    if name == "launch":
        given = dict(word.split(":=", 1) for word in words[1:])
        nodes = expand(ROOT / "launch" / words[0], given, tmp_path).nodes
        names = {node.name for node in nodes}
        assert {"controller_manager", "robot_state_publisher", "hardware"} <= names
        urdf = next(node for node in nodes if node.name == "robot_state_publisher").parameters[0]
        assert given["hardware"] in str(urdf), "the driver's plugin does not reach the description"
    elif name == "robot":
        robot.parser().parse_args(words)


@pytest.mark.parametrize("text", _blocks("yaml"))
def test_its_parameter_files_name_parameters_that_exist(text: str) -> None:
    content = yaml.safe_load(text)
    own = content.get("/**/hardware", {}).get("ros__parameters", {})
    assert set(own) <= {item.name for item in describe(HardwareConfiguration)}
    if "controller_manager" in content:
        manager = content["controller_manager"]["ros__parameters"]
        assert set(content) - {"controller_manager"} <= set(manager)


def test_its_table_has_every_check() -> None:
    checks = Checks(load_robot(ROOT / "config" / "robots" / "cartpole.yaml"), Demands()).results(Observation())
    rows = re.findall(r"^\| `(\w+)` \|", GUIDE[GUIDE.index("## 3.") : GUIDE.index("## 4.")], re.MULTILINE)
    assert rows == list(checks)


def test_the_defaults_that_it_names_are_those_that_hold() -> None:
    defaults = {item.name: item.default for item in describe(HardwareConfiguration)}
    assert (defaults["rest_linear"], defaults["rest_angular"]) == (0.05, 0.1)
    assert "0.05 m/s or 0.1 rad/s" in GUIDE
    assert f"`homing_timeout` ({defaults['homing_timeout']:g} s)" in GUIDE
