# SPDX-License-Identifier: Apache-2.0
"""The section `guard` of robot files."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from mbrl_core.guard_limits import SoftStop, SpeedLimit
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import SpecError

ROBOTS = Path(__file__).parents[3] / "config" / "robots"


def write(folder: Path, guard: Any) -> Path:
    """The reacher with a section `guard`."""
    content = yaml.safe_load((ROBOTS / "reacher.yaml").read_text())
    content["guard"] = guard
    path = folder / "reacher.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_robots_without_the_section_have_no_such_limits() -> None:
    guard = load_robot(ROBOTS / "reacher.yaml").guard
    assert guard.soft_stops == (None, None) and guard.speeds == (None, None)
    assert guard.predicted_std == (math.inf,) * 4


def test_all_of_it(tmp_path: Path) -> None:
    guard = {
        "soft_stop": {"joint1": {"margin": 0.5, "braking": 0.1}},
        "velocity": {"joint0": {"limit": 4}},
        "predicted_std": {"joint1_position": 0.2},
    }
    robot = load_robot(write(tmp_path, guard))
    assert robot.guard.soft_stops == (None, SoftStop(-2.5, 2.5, 0.1))
    assert robot.guard.speeds == (SpeedLimit(4.0, 0.0), None)
    assert robot.guard.predicted_std == (math.inf, 0.2, math.inf, math.inf)
    plain = load_robot(ROBOTS / "reacher.yaml").spec
    assert robot.spec.interface_hash == plain.interface_hash, "models and plans stay valid"


@pytest.mark.parametrize(
    ("guard", "text"),
    [
        ([], None),
        ([1], "guard: got [1], expected a mapping"),
        ({"temperature": {}}, "guard: unknown key 'temperature', expected one of soft_stop, velocity, predicted_std"),
        ({"soft_stop": {"elbow": {}}}, "guard.soft_stop: unknown key 'elbow', expected one of joint0, joint1"),
        ({"soft_stop": {"joint1": {"margin": -1.0}}}, "guard.soft_stop.joint1.margin: got -1.0, expected a number at"),
        ({"soft_stop": {"joint1": {}}}, "guard.soft_stop.joint1.margin: got None"),
        ({"soft_stop": {"joint1": 0.5}}, "guard.soft_stop.joint1: got 0.5, expected a mapping"),
        ({"soft_stop": {"joint1": {"margin": 3.5}}}, "margin: got 3.5, expected less than half of 6"),
        ({"soft_stop": {"joint0": {"margin": 0.1}}}, "joint 'joint0' has no position_limits"),
        ({"velocity": {"joint0": {"limit": 0}}}, "guard.velocity.joint0.limit: got 0, expected a number above 0"),
        ({"velocity": {"joint0": {"limit": 1, "braking": "much"}}}, "braking: got 'much', expected a number"),
        ({"velocity": {"joint0": {"limit": True}}}, "got True"),
        ({"predicted_std": {"joint0": 0.1}}, "guard.predicted_std: unknown key 'joint0', expected one of joint0_pos"),
        ({"predicted_std": {"joint0_position": math.nan}}, "guard.predicted_std.joint0_position: got nan"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, guard: Any, text: str | None) -> None:
    path = write(tmp_path, guard)
    if text is None:
        load_robot(path)
        return
    with pytest.raises(SpecError) as error:
        load_robot(path)
    assert text in str(error.value) and str(path) in str(error.value)
