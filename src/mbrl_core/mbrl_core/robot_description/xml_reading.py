# SPDX-License-Identifier: Apache-2.0
"""What the readers of URDF and SDF share: elements and numbers, with errors that name file and element."""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mbrl_core.robot_description.rigid_body import Frame, from_rpy
from mbrl_core.robot_description.tree import DescriptionError
from mbrl_core.specs import Array

# Drake's name for it; as far as known the only one for armature in either format.
DRAKE = "http://drake.mit.edu"
ROTOR_INERTIA = f"{{{DRAKE}}}rotor_inertia"
MOMENTS = ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")


@dataclass(frozen=True)
class Element:
    """An XML element that knows where it stands, for the sake of its errors."""

    xml: ElementTree.Element
    path: Path
    where: str

    def error(self, what: str) -> DescriptionError:
        """An error that names file and element."""
        return DescriptionError(f"{self.path}: {self.where}: {what}")

    def all(self, tag: str) -> "list[Element]":
        """The children of this tag."""
        return [Element(child, self.path, _where(child, self.where)) for child in self.xml.findall(tag)]

    def find(self, tag: str) -> "Element | None":
        """The first child of this tag, by a path of tags; None where there is none."""
        child = self.xml.find(tag)
        return None if child is None else Element(child, self.path, _where(child, self.where))

    def child(self, tag: str) -> "Element":
        """The first child of this tag. Raises DescriptionError."""
        found = self.find(tag)
        if found is None:
            raise self.error(f"expected an element <{tag}>")
        return found

    def attribute(self, name: str) -> str:
        """Raises DescriptionError where it has no such attribute."""
        value = self.xml.get(name)
        if value is None:
            raise self.error(f"expected an attribute {name!r}")
        return value

    @property
    def text(self) -> str:
        """Its text without blanks around it."""
        return (self.xml.text or "").strip()

    def number(self, text: str | None) -> float:
        """Raises DescriptionError where the text is no number."""
        return float(self.numbers(text, 1)[0])

    def numbers(self, text: str | None, count: int) -> Array:
        """`count` numbers separated by blanks. Raises DescriptionError on anything else, NaN included."""
        try:
            values = np.array([float(part) for part in (text or "").split()])
        except ValueError:
            values = np.array([])
        if len(values) != count or np.isnan(values).any():
            raise self.error(f"got {text!r}, expected {count} number{'s' if count > 1 else ''}")
        return values

    def unit(self, text: str | None) -> Array:
        """A unit vector [3] along three numbers. Raises DescriptionError on zeros."""
        axis = self.numbers(text, 3)
        length = float(np.linalg.norm(axis))
        if not 0.0 < length < math.inf:
            raise self.error(f"got {text!r}, expected a direction")
        return axis / length


def _where(child: ElementTree.Element, parent: str) -> str:
    name = child.get("name")
    if name is not None:
        return f"{child.tag} {name!r}"
    return f"{parent}, <{child.tag.rpartition('}')[2]}>"


def parse(path: Path) -> Element:
    """The root element of a file. Raises FileNotFoundError, DescriptionError on what is no XML."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: `./mbrl robot export` writes it")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DescriptionError(f"{path}: {error}") from None
    return Element(root, path, f"<{root.tag}>")


def frame_of(numbers: Array) -> Frame:
    """Rotation and origin of x, y, z in m and roll, pitch, yaw in rad."""
    return from_rpy(*numbers[3:]), np.array(numbers[:3])


def tensor(moments: dict[str, float]) -> Array:
    """[3, 3] of ixx, ixy, ixz, iyy, iyz, izz."""
    xx, xy, xz, yy, yz, zz = (moments[name] for name in MOMENTS)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
