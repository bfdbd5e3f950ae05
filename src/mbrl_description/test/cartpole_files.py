# SPDX-License-Identifier: Apache-2.0
"""Reads links and joints out of the MJCF, the URDF and the SDF of the cart-pole into one form."""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np
from numpy.typing import NDArray

PACKAGE = Path(__file__).parents[1]
MJCF = PACKAGE / "mjcf" / "cartpole.xml"
URDF = PACKAGE / "urdf" / "cartpole.urdf"
ROS2_CONTROL = PACKAGE / "urdf" / "cartpole_ros2_control.urdf.xacro"
SDF = PACKAGE / "sdf" / "cartpole.sdf"
WORLD = PACKAGE / "sdf" / "mbrl.world.sdf"


@dataclass(frozen=True)
class Link:
    """Mass in kg; centre of mass [3] in m in the link's frame; inertia [3, 3] in kg m^2 about it."""

    mass: float
    centre: NDArray[np.float64]
    inertia: NDArray[np.float64]


@dataclass(frozen=True)
class Joint:
    """`kind` is slide or hinge; axis [3] in the parent's frame; limits in m or rad; damping in SI; effort in N."""

    kind: str
    parent: str
    child: str
    origin: NDArray[np.float64]
    axis: NDArray[np.float64]
    limits: tuple[float, float]
    damping: float
    effort: float | None


def from_mjcf() -> tuple[dict[str, Link], dict[str, Joint]]:
    """Links and joints as MuJoCo compiles them; joints without a motor have no effort."""
    model = mujoco.MjModel.from_xml_path(str(MJCF))
    links, joints = {}, {}
    for body in range(1, model.nbody):
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.body_iquat[body])
        turn = rotation.reshape(3, 3)
        inertia = turn @ np.diag(model.body_inertia[body]) @ turn.T
        links[model.body(body).name] = Link(float(model.body_mass[body]), model.body_ipos[body].copy(), inertia)
    efforts = {
        model.joint(model.actuator(index).trnid[0]).name: model.actuator(index).gear[0]
        * model.actuator(index).ctrlrange[1]
        for index in range(model.nu)
    }
    for index in range(model.njnt):
        joint = model.joint(index)
        body = model.body(joint.bodyid[0])
        joints[joint.name] = Joint(
            kind="slide" if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE else "hinge",
            parent=model.body(body.parentid[0]).name,
            child=body.name,
            origin=body.pos.copy(),
            axis=joint.axis.copy(),
            limits=(float(joint.range[0]), float(joint.range[1])) if joint.limited[0] else (-math.inf, math.inf),
            damping=float(joint.damping[0]),
            effort=efforts.get(joint.name),
        )
    return links, joints


def numbers(text: str | None) -> NDArray[np.float64]:
    """Numbers separated by blanks; three zeros where there is no text."""
    return np.array([float(part) for part in (text or "0 0 0").split()])


def tensor(values: dict[str, float]) -> NDArray[np.float64]:
    """[3, 3] from ixx, ixy, ixz, iyy, iyz, izz."""
    return np.array([
        [values["ixx"], values["ixy"], values["ixz"]],
        [values["ixy"], values["iyy"], values["iyz"]],
        [values["ixz"], values["iyz"], values["izz"]],
    ])  # fmt: skip


def attribute(element: ElementTree.Element, path: str, name: str, default: str | None = None) -> str:
    """An attribute of a child element."""
    child = element.find(path)
    value = default if child is None else child.get(name, default)
    if value is None:
        raise AssertionError(f"{element.get('name')}: no {path}/@{name}")
    return value


def text(element: ElementTree.Element, path: str, default: str | None = None) -> str:
    """The text of a child element."""
    value = element.findtext(path, default)
    if value is None:
        raise AssertionError(f"{element.get('name')}: no {path}")
    return value


def from_urdf() -> tuple[dict[str, Link], dict[str, Joint]]:
    """Links with inertia and moving joints."""
    root = ElementTree.parse(URDF).getroot()
    links, joints = {}, {}
    for link in root.findall("link"):
        inertial = link.find("inertial")
        if inertial is None:
            continue
        assert not numbers(attribute(inertial, "origin", "rpy", "0 0 0")).any(), (
            "rotated inertia: compare its tensor rotated"
        )
        inertia = inertial.find("inertia")
        assert inertia is not None
        links[link.attrib["name"]] = Link(
            mass=float(attribute(inertial, "mass", "value")),
            centre=numbers(attribute(inertial, "origin", "xyz", "0 0 0")),
            inertia=tensor({key: float(value) for key, value in inertia.attrib.items()}),
        )
    for joint in root.findall("joint"):
        kind = {"prismatic": "slide", "continuous": "hinge"}.get(joint.attrib["type"])
        if kind is None:
            continue
        assert not numbers(attribute(joint, "origin", "rpy", "0 0 0")).any()
        limited = kind == "slide"
        joints[joint.attrib["name"]] = Joint(
            kind=kind,
            parent=attribute(joint, "parent", "link"),
            child=attribute(joint, "child", "link"),
            origin=numbers(attribute(joint, "origin", "xyz", "0 0 0")),
            axis=numbers(attribute(joint, "axis", "xyz")),
            limits=(float(attribute(joint, "limit", "lower")), float(attribute(joint, "limit", "upper")))
            if limited
            else (-math.inf, math.inf),
            damping=float(attribute(joint, "dynamics", "damping")),
            effort=float(attribute(joint, "limit", "effort")) if limited else None,
        )
    return links, joints


def from_sdf() -> tuple[dict[str, Link], dict[str, Joint]]:
    """Links and moving joints of the model."""
    model = ElementTree.parse(SDF).getroot().find("model")
    assert model is not None
    links, joints = {}, {}
    for link in model.findall("link"):
        assert link.find("pose") is None, "links stand in their parents' origins"
        inertial = link.find("inertial")
        assert inertial is not None
        pose = numbers(inertial.findtext("pose", "0 0 0 0 0 0"))
        assert not pose[3:].any()
        inertia = inertial.find("inertia")
        assert inertia is not None
        links[link.attrib["name"]] = Link(
            mass=float(text(inertial, "mass")),
            centre=pose[:3],
            inertia=tensor({entry.tag: float(entry.text or "nan") for entry in inertia}),
        )
    for joint in model.findall("joint"):
        kind = {"prismatic": "slide", "revolute": "hinge"}.get(joint.attrib["type"])
        if kind is None:
            continue
        assert joint.find("pose") is None
        effort = joint.findtext("axis/limit/effort")
        joints[joint.attrib["name"]] = Joint(
            kind=kind,
            parent=text(joint, "parent"),
            child=text(joint, "child"),
            origin=np.zeros(3),
            axis=numbers(text(joint, "axis/xyz")),
            limits=(float(text(joint, "axis/limit/lower", "-inf")), float(text(joint, "axis/limit/upper", "inf"))),
            damping=float(text(joint, "axis/dynamics/damping")),
            effort=None if effort is None else float(effort),
        )
    return links, joints
