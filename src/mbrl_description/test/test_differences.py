# SPDX-License-Identifier: Apache-2.0
"""A description that is no longer the robot is found out, and what differs is named."""

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from shipped_robots import FOLDERS, ROBOTS, compiled

from mbrl_core.robot_description.check import check
from mbrl_core.robot_description.tree import DescriptionError

Change = Callable[[ElementTree.Element, str], None]


def scaled(text: str | None) -> str:
    return repr(float(text or "nan") * 1.00001)


def last_link(root: ElementTree.Element) -> ElementTree.Element:
    return root.findall(".//link")[-1]


def last_joint(root: ElementTree.Element) -> ElementTree.Element:
    return root.findall(".//joint[axis]")[-1]


def found(element: ElementTree.Element, path: str) -> ElementTree.Element:
    inner = element.find(path)
    assert inner is not None, path
    return inner


def change_mass(root: ElementTree.Element, form: str) -> None:
    mass = found(last_link(root), "inertial/mass")
    if form == "urdf":
        mass.set("value", scaled(mass.get("value")))
    else:
        mass.text = scaled(mass.text)


def change_inertia(root: ElementTree.Element, form: str) -> None:
    inertia = found(last_link(root), "inertial/inertia")
    if form == "urdf":
        inertia.set("iyy", scaled(inertia.get("iyy")))
    else:
        found(inertia, "iyy").text = scaled(found(inertia, "iyy").text)


def change_axis(root: ElementTree.Element, form: str) -> None:
    axis = found(last_joint(root), "axis")
    numbers = [float(part) + 1e-5 for part in (axis.get("xyz") or axis.findtext("xyz") or "").split()]
    text = " ".join(map(repr, numbers))
    if form == "urdf":
        axis.set("xyz", text)
    else:
        found(axis, "xyz").text = text


def change_limit(root: ElementTree.Element, form: str) -> None:
    """The bound of the last limited joint; where there is none, one more."""
    if form == "urdf":
        limited = root.findall(".//joint/limit[@upper]")
        if limited:
            limited[-1].set("upper", scaled(limited[-1].get("upper")))
        else:
            joint = last_joint(root)
            joint.set("type", "revolute")
            limit = joint.find("limit")
            assert limit is not None
            limit.set("lower", "-100")
            limit.set("upper", "100")
        return
    bounds = root.findall(".//joint/axis/limit/upper")
    if bounds:
        bounds[-1].text = scaled(bounds[-1].text)
    else:
        ElementTree.SubElement(found(last_joint(root), "axis/limit"), "upper").text = "100"


def change_origin(root: ElementTree.Element, form: str) -> None:
    """The last link stands a little off along x."""
    if form == "urdf":
        origin = found(last_joint(root), "origin")
        numbers = [float(part) for part in (origin.get("xyz") or "").split()]
        origin.set("xyz", " ".join(map(repr, [numbers[0] + 1e-5, *numbers[1:]])))
        return
    link = last_link(root)
    pose = link.find("pose")
    if pose is None:
        pose = ElementTree.SubElement(link, "pose")
        pose.text = "0 0 0 0 0 0"
    numbers = [float(part) for part in (pose.text or "").split()]
    pose.text = " ".join(map(repr, [numbers[0] + 1e-5, *numbers[1:]]))


def change_damping(root: ElementTree.Element, form: str) -> None:
    dynamics = found(last_joint(root), "dynamics" if form == "urdf" else "axis/dynamics")
    if form == "urdf":
        dynamics.set("damping", scaled(dynamics.get("damping")))
    else:
        found(dynamics, "damping").text = scaled(dynamics.findtext("damping"))


CHANGES: dict[str, tuple[Change, str, str]] = {
    "mass": (change_mass, "link", "mass"),
    "inertia": (change_inertia, "link", "inertia"),
    "axis": (change_axis, "joint", "axis"),
    "limit": (change_limit, "joint", "limits"),
    "origin": (change_origin, "joint", "anchor"),
    "damping": (change_damping, "joint", "damping"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", ["urdf", "sdf"])
@pytest.mark.parametrize("name", ROBOTS)
def test_a_change_is_named(tmp_path: Path, name: str, form: str, change: str) -> None:
    source = FOLDERS.urdf(name) if form == "urdf" else FOLDERS.sdf(name)
    tree = ElementTree.parse(source)
    alter, element, quantity = CHANGES[change]
    alter(tree.getroot(), form)
    copy = tmp_path / source.name
    tree.write(copy)
    report = check(compiled(name), copy)
    assert report.first is not None
    assert report.first.quantity == quantity
    changed = last_link(tree.getroot()) if element == "link" else last_joint(tree.getroot())
    where = str(changed.get("name"))
    if change == "limit" and name == "cartpole":
        where = "slider"
    assert report.message().startswith(f"{copy}: {element} '{where}'")
    assert report.first.expected != report.first.found
    assert f"{report.first.found}, expected {report.first.expected} as {name}.xml has it" in report.message()


@pytest.mark.parametrize("quantity", ["mass matrix", "gravity"])
def test_dynamics_differ_with_the_mass(tmp_path: Path, quantity: str) -> None:
    tree = ElementTree.parse(FOLDERS.urdf("acrobot"))
    change_mass(tree.getroot(), "urdf")
    tree.write(tmp_path / "acrobot.urdf")
    assert (check(compiled("acrobot"), tmp_path / "acrobot.urdf").worst(quantity) or 0.0) > 1e-6


def test_armature_that_is_left_out_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reacher.sdf"
    text = FOLDERS.sdf("reacher").read_text()
    path.write_text(text.replace("<drake:rotor_inertia>1</drake:rotor_inertia>", ""))
    assert "joint 'joint1': armature: 0 SI, expected 1 SI" in check(compiled("reacher"), path).message()


@pytest.mark.parametrize(
    ("form", "before", "after", "message"),
    [
        ("urdf", '<child link="pole" />', '<child link="mast" />', "joint 'hinge': child: no link 'mast'"),
        ("urdf", '<mass value="5', '<mass value="five', "link 'pole', <inertial>, <mass>: got 'five"),
        ("urdf", 'type="prismatic"', 'type="floating"', "joint 'slider': type: got 'floating', expected one of fixed"),
        (
            "urdf",
            '<axis xyz="0 1 0" />',
            '<axis xyz="0 0 0" />',
            "joint 'hinge', <axis>: got '0 0 0', expected a direct",
        ),
        (
            "urdf",
            '<joint name="hinge" type="continuous">',
            '<joint name="hinge" type="revolute">',
            "expected an element <li",
        ),
        ("sdf", "<child>pole</child>", "<child>mast</child>", "joint 'hinge': no link or joint 'mast'"),
        ("sdf", "<xyz>0 1 0</xyz>", "<xyz>0 1</xyz>", "joint 'hinge', <axis>, <xyz>: got '0 1', expected 3 numbers"),
        ("sdf", 'version="1.9"', 'version="1.11"', "version '1.11', expected <sdf> 1.7, 1.8, 1.9"),
        ("sdf", "</model>", "", "mismatched tag"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, form: str, before: str, after: str, message: str) -> None:
    path = tmp_path / f"cartpole.{form}"
    text = (FOLDERS.urdf if form == "urdf" else FOLDERS.sdf)("cartpole").read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(DescriptionError) as failure:
        check(compiled("cartpole"), path)
    assert str(failure.value).startswith(f"{path}: ")
    assert message in str(failure.value)


def test_a_renamed_joint_and_a_swapped_parent_are_named(tmp_path: Path) -> None:
    path = tmp_path / "acrobot.urdf"
    text = FOLDERS.urdf("acrobot").read_text()
    path.write_text(text.replace('"elbow"', '"knee"'))
    assert "joint 'elbow': bodies and joints: none, expected hinge" in check(compiled("acrobot"), path).message()
    path.write_text(text.replace('<parent link="upper_link" />', '<parent link="base" />'))
    assert "hinge from 'world' to 'lower_link', expected hinge from 'upper_link'" in (
        check(compiled("acrobot"), path).message()
    )
    path.unlink()
    with pytest.raises(FileNotFoundError, match="robot export"):
        check(compiled("acrobot"), path)
