# SPDX-License-Identifier: Apache-2.0
"""The delay of a robot file: read, refused, and written without touching anything else."""

import math
from pathlib import Path

import pytest
import yaml

from mbrl_core.robot_file import load_robot
from mbrl_core.robot_file_edit import write_delay
from mbrl_core.specs import SpecError

CARTPOLE = Path(__file__).parents[3] / "config" / "robots" / "cartpole.yaml"


def copy(folder: Path, *changes: tuple[str, str]) -> Path:
    text = CARTPOLE.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "robot.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_written_where_it_was_not_and_replaced_where_it_was(tmp_path: Path) -> None:
    path = copy(tmp_path)
    before = path.read_text(encoding="utf-8").splitlines()
    write_delay(path, 0.0183)
    assert load_robot(path).spec.delay == 0.0183
    after = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in after if line not in before] == ["  delay: 0.0183"] and len(after) == len(before) + 1
    path.write_text(path.read_text(encoding="utf-8").replace("delay: 0.0183", "delay: 0.0183   # measured"))
    write_delay(path, 0.02)
    assert "  delay: 0.02   # measured\n" in path.read_text(encoding="utf-8")
    assert load_robot(path).spec.delay == 0.02


def test_data_and_models_stay_valid(tmp_path: Path) -> None:
    path = copy(tmp_path)
    before = load_robot(path).spec
    write_delay(path, 0.06)
    after = load_robot(path).spec
    assert (after.interface_hash, after.description_hash) == (before.interface_hash, before.description_hash)


def test_what_is_written_otherwise_is_left_alone(tmp_path: Path) -> None:
    content = yaml.safe_load(CARTPOLE.read_text(encoding="utf-8"))
    path = tmp_path / "flow.yaml"
    path.write_text(yaml.safe_dump(content, default_flow_style=True), encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    with pytest.raises(SpecError, match=r"flow\.yaml: cannot write the delay.*delay: 0\.02"):
        write_delay(path, 0.02)
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("value", [-0.01, math.inf, math.nan])
def test_delays_that_are_none(tmp_path: Path, value: float) -> None:
    text = {math.inf: ".inf", -0.01: "-0.01"}.get(value, ".nan")
    path = copy(tmp_path, ("  command_offset: 0.0", f"  delay: {text}"))
    with pytest.raises(SpecError, match="delay: got"):
        load_robot(path)
    path = copy(tmp_path, ("  command_timeout: 0.2 ", f"  command_delay: {text} "))
    with pytest.raises(SpecError, match="command_delay: got"):
        load_robot(path)
