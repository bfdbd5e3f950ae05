# SPDX-License-Identifier: Apache-2.0
"""A robot file asks for no more than the description of the robot that runs permits."""

from pathlib import Path

import pytest
import yaml

from mbrl_core.robot_description.limits import command_range, first_disagreement
from mbrl_core.robot_file import Robot, load_robot

ROOT = Path(__file__).resolve().parents[3]
URDF = """<robot name="two">
  <joint name="slider" type="prismatic"><limit lower="-2" upper="2" effort="100" velocity="3" /></joint>
  <joint name="hinge" type="continuous" />
  <ros2_control name="two" type="system">
    <joint name="slider">
      <command_interface name="effort"><param name="min">-60</param><param name="max">60</param></command_interface>
    </joint>
  </ros2_control>
</robot>"""


def _robot(folder: Path, **changes: object) -> Robot:
    content = {
        "name": "two",
        "control": {"period": 0.05},
        "joints": [
            {"name": "slider", "kind": "linear", "position_limits": [-2.0, 2.0], "velocity_limit": 3.0},
            {"name": "hinge", "kind": "angular"},
        ],
        "actions": [{"joint": "slider", "interface": "effort", "limits": [-1.0, 1.0], "scale": 60.0}],
        **changes,
    }
    file = folder / "two.yaml"
    file.write_text(yaml.safe_dump(content))
    return load_robot(file)


def _joints(**slider: object) -> list[dict[str, object]]:
    first = {"name": "slider", "kind": "linear", "position_limits": [-2.0, 2.0], "velocity_limit": 3.0, **slider}
    return [first, {"name": "hinge", "kind": "angular"}]


def test_what_is_within_agrees(tmp_path: Path) -> None:
    assert first_disagreement(_robot(tmp_path), URDF) == ""
    narrower = _robot(tmp_path, joints=_joints(position_limits=[-1.0, 1.5], velocity_limit=1.0))
    assert first_disagreement(narrower, URDF) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": _joints(position_limits=[-2.1, 2.0])}, "position limits: -2 to 2 in robot_description, -2.1 to 2"),
        ({"joints": _joints(position_limits=None)}, "-2 to 2 in robot_description, none in the robot file"),
        ({"joints": _joints(velocity_limit=3.1)}, "velocity limit: 3 in robot_description, 3.1 in the robot file"),
        ({"joints": _joints(velocity_limit=None)}, "velocity limit: 3 in robot_description, inf in the robot file"),
        ({"joints": _joints(kind="angular")}, "'slider': 'prismatic' in robot_description, angular in the robot file"),
        (
            {"actions": [{"joint": "slider", "limits": [-1.0, 1.0], "scale": 101.0}]},
            "effort limit: -100 to 100 in robot_description, -101 to 101",
        ),
        (
            {"actions": [{"joint": "slider", "limits": [-1.0, 1.0], "scale": -61.0}]},
            "min and max of its command interface: -60 to 60 in robot_description, -61 to 61",
        ),
        (
            {"actions": [{"joint": "slider", "interface": "velocity", "limits": [-3.2, 3.0]}], "safe_action": {}},
            "velocity limit: -3 to 3 in robot_description, -3.2 to 3",
        ),
        (
            {
                "actions": [{"joint": "slider", "interface": "position", "limits": [-2.0, 2.5]}],
                "safe_action": {"kind": "hold"},
            },
            "position limit: -2 to 2 in robot_description, -2 to 2.5",
        ),
        (
            {"actions": [{"joint": "slider", "interface": "velocity", "limits": [-1.0, 1.0]}], "safe_action": {}},
            "no command interface 'velocity' for it; there are effort",
        ),
    ],
)
def test_the_first_disagreement_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    assert message in first_disagreement(_robot(tmp_path, **change), URDF)


def test_an_unknown_joint_and_no_xml_are_named(tmp_path: Path) -> None:
    robot = _robot(tmp_path)
    assert "joint 'hinge' is not in robot_description; joints there: slider, other" in first_disagreement(
        robot, URDF.replace('name="hinge"', 'name="other"')
    )
    assert "robot_description is no XML" in first_disagreement(robot, "<robot")
    assert "robot_description: could not convert" in first_disagreement(robot, URDF.replace('upper="2"', 'upper="x"'))


@pytest.mark.parametrize("name", ["acrobot", "arm", "cartpole", "pendulum", "reacher"])
def test_shipped_robots_agree_with_their_exported_urdf(name: str) -> None:
    robot = load_robot(ROOT / "config" / "robots" / f"{name}.yaml")
    urdf = (ROOT / "src" / "mbrl_description" / "urdf" / f"{name}.urdf").read_text()
    assert first_disagreement(robot, urdf) == ""
    low, high = command_range(robot, 0)
    assert low < 0.0 < high
