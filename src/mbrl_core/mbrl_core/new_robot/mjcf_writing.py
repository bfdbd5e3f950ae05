# SPDX-License-Identifier: Apache-2.0
"""Writes a specification as MJCF with all the digits that the robot's dynamics have."""

from xml.etree import ElementTree

import mujoco
import numpy as np


def mjcf_text(spec: mujoco.MjSpec, model: mujoco.MjModel) -> str:
    """MuJoCo writes six digits; places, axes and inertias of bodies and joints get those of the compiled `model`."""
    root = ElementTree.fromstring(spec.to_xml())
    for element in root.iter("body"):
        body = model.body(element.get("name", ""))
        _set(element, pos=body.pos, quat=body.quat)
        inertial = element.find("inertial")
        if inertial is not None:
            inertial.attrib.pop("fullinertia", None)
            _set(inertial, pos=body.ipos, quat=body.iquat, mass=body.mass, diaginertia=body.inertia)
        for joint in element.findall("joint"):
            compiled = model.joint(joint.get("name", ""))
            _set(joint, pos=compiled.pos, axis=compiled.axis)
            if compiled.limited[0]:
                _set(joint, range=compiled.range)
    # What else is turned says so by quaternions, which `angle` does not concern.
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _set(element: ElementTree.Element, **values: np.ndarray) -> None:
    for name, value in values.items():
        element.set(name, " ".join(repr(float(part)) for part in np.ravel(value)))
