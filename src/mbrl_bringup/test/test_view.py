# SPDX-License-Identifier: Apache-2.0
"""RViz's file against the graph that it is shown: topics, their types and durability, and the fixed frame."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RVIZ = yaml.safe_load((ROOT / "config/rviz/mbrl.rviz").read_text())
DISPLAYS: list[dict[str, Any]] = RVIZ["Visualization Manager"]["Displays"]
NODE = (ROOT / "src/mbrl_robot/mbrl_robot/nodes/markers_node.py").read_text()
URDFS = sorted((ROOT / "src/mbrl_description/urdf").glob("*.urdf"))
DURABILITY = {"STATUS": "Volatile", "LATCHED": "Transient Local"}


def test_marker_topics_are_those_of_the_node() -> None:
    published = dict(re.findall(r'create_publisher\(MarkerArray, "(\w+)", qos\.(\w+)\)', NODE))
    shown = {
        display["Topic"]["Value"]: display["Topic"]["Durability Policy"]
        for display in DISPLAYS
        if display["Class"] == "rviz_default_plugins/MarkerArray"
    }
    assert shown == {topic: DURABILITY[profile] for topic, profile in published.items()}
    assert len(shown) == 2


def test_the_description_is_latched() -> None:
    (model,) = [display for display in DISPLAYS if display["Class"] == "rviz_default_plugins/RobotModel"]
    topic = model["Description Topic"]
    assert (topic["Value"], topic["Durability Policy"]) == ("robot_description", "Transient Local")
    assert any(display["Class"] == "rviz_default_plugins/TF" for display in DISPLAYS)


@pytest.mark.parametrize(
    "urdf", sorted((ROOT / "src/mbrl_description/urdf").glob("*.urdf")), ids=lambda file: file.stem
)
def test_the_fixed_frame_is_the_root_of_every_robot(urdf: Path) -> None:
    root = ElementTree.parse(urdf).getroot()
    children = {joint.find("child").get("link") for joint in root.findall("joint")}  # type: ignore[union-attr]
    (frame,) = {link.get("name") for link in root.findall("link")} - children
    assert frame == RVIZ["Visualization Manager"]["Global Options"]["Fixed Frame"]
    assert f'FRAME = "{frame}"' in NODE
