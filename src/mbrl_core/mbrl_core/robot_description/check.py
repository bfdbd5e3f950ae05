# SPDX-License-Identifier: Apache-2.0
"""Compares a URDF or SDF with the compiled MJCF, number by number."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbrl_core.robot_description.armature import carry
from mbrl_core.robot_description.mujoco_tree import CompiledRobot, mass_and_gravity_of_mujoco
from mbrl_core.robot_description.rigid_body import mass_and_gravity
from mbrl_core.robot_description.sdf_reader import read_sdf
from mbrl_core.robot_description.tree import HINGE, SLIDE, Body, Joint, Tree
from mbrl_core.robot_description.urdf_reader import read_urdf
from mbrl_core.specs import Array

TOLERANCE = 1e-6  # of each quantity's own scale
CONFIGURATIONS = 64
UNLIMITED_SPAN = math.pi  # rad or m, to draw configurations from where a joint has no limits
QUANTITIES = (
    "bodies and joints", "mass", "centre of mass", "inertia", "axis", "anchor", "limits", "damping", "friction",
    "effort", "armature", "mass matrix", "gravity",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One number compared: how far it is off, as a share of its scale, and both values for people to read."""

    quantity: str
    where: str
    error: float
    expected: str
    found: str

    @property
    def agrees(self) -> bool:
        """NaN does not."""
        return self.error <= TOLERANCE


@dataclass(frozen=True)
class Report:
    """What came of one file's comparison with `reference`, in the order of the checks."""

    path: Path
    reference: Path
    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding | None:
        """The first finding that does not agree."""
        return next((finding for finding in self.findings if not finding.agrees), None)

    def worst(self, quantity: str) -> float | None:
        """The largest error of a quantity; None where it was not compared."""
        return max((finding.error for finding in self.findings if finding.quantity == quantity), default=None)

    def message(self) -> str:
        """The first difference: file, place, both numbers. Empty where there is none."""
        if self.first is None:
            return ""
        finding = self.first
        return (
            f"{self.path}: {finding.where}: {finding.quantity}: {finding.found}, expected {finding.expected} as"
            f" {self.reference.name} has it"
        )


def check(compiled: CompiledRobot, path: Path, seed: int = 0) -> Report:
    """Compares a .urdf or .sdf with the robot. Raises FileNotFoundError, DescriptionError on a file that is neither."""
    return compare(compiled, read_urdf(path) if path.suffix == ".urdf" else read_sdf(path), seed)


def compare(compiled: CompiledRobot, found: Tree, seed: int = 0) -> Report:
    """Compares a tree with the robot; configurations are drawn with `seed`."""
    expected = carry(compiled.tree)
    findings = _structure(expected, found)
    if all(finding.agrees for finding in findings):
        size = _size(expected)
        for body, joint in zip(expected.bodies, expected.joints, strict=True):
            other = next(other for other in found.joints if other.name == joint.name)
            findings += _joint(joint, other, size)
            findings += _body(body, found.body(body.name), size)
        findings += _dynamics(compiled, expected, found, size, seed)
    return Report(found.source, compiled.tree.source, tuple(findings))


def _structure(expected: Tree, found: Tree) -> list[Finding]:
    def row(where: str, want: str, have: str) -> Finding:
        return Finding("bodies and joints", where, 0.0 if want == have else math.inf, want, have)

    findings = [row("model", f"name {expected.name!r}", f"name {found.name!r}")]
    names = {joint.name: joint for joint in found.joints}
    for joint in expected.joints:
        other = names.pop(joint.name, None)
        want = f"{joint.kind} from {joint.parent!r} to {joint.child!r}"
        have = "none" if other is None else f"{other.kind} from {other.parent!r} to {other.child!r}"
        findings.append(row(f"joint {joint.name!r}", want, have))
    findings += [
        row(f"joint {joint.name!r}", "none", f"{joint.kind} from {joint.parent!r} to {joint.child!r}")
        for joint in names.values()
    ]
    return findings


def _size(tree: Tree) -> float:
    """The robot's extent in m, what distances are compared with."""
    points = [body.centre for body in tree.bodies] + [joint.anchor for joint in tree.joints]
    middle = tree.joints[0].anchor if tree.joints else np.zeros(3)
    return max([float(np.linalg.norm(point - middle)) for point in points], default=0.0) or 1.0


def _joint(joint: Joint, other: Joint, size: float) -> list[Finding]:
    where = f"joint {joint.name!r}"
    findings = [_vector("axis", where, joint.axis, other.axis, 1.0)]
    if joint.kind == HINGE:
        # Any point of the axis is as good: the distance between the axes counts.
        apart = other.anchor - joint.anchor
        apart = apart - (apart @ joint.axis) * joint.axis
        findings.append(_vector("anchor", where, joint.anchor, joint.anchor + apart, size, "m"))
    unit = "m" if joint.kind == SLIDE else "rad"
    for end, want, have in zip(("lower", "upper"), joint.limits, other.limits, strict=True):
        findings.append(_number("limits", f"{where} {end}", want, have, unit))
    for quantity in ("damping", "friction", "effort", "armature"):
        findings.append(_number(quantity, where, getattr(joint, quantity), getattr(other, quantity), "SI"))
    return findings


def _body(body: Body, other: Body, size: float) -> list[Finding]:
    where = f"link {body.name!r}"
    return [
        _number("mass", where, body.mass, other.mass, "kg"),
        _vector("centre of mass", where, body.centre, other.centre, size, "m"),
        _vector("inertia", where, body.inertia, other.inertia, float(np.abs(body.inertia).max()) or 1.0, "kg m^2"),
    ]


def _number(quantity: str, where: str, want: float, have: float, unit: str) -> Finding:
    error = 0.0 if want == have else abs(have - want) / (abs(want) or 1.0)
    # Infinity beside a number gives NaN or infinity, and neither agrees.
    return Finding(quantity, where, error, f"{want:.12g} {unit}", f"{have:.12g} {unit}")


def _vector(quantity: str, where: str, want: Array, have: Array, scale: float, unit: str = "") -> Finding:
    error = float(np.abs(have - want).max()) / scale
    return Finding(quantity, where, error, f"{_row(want)} {unit}".strip(), f"{_row(have)} {unit}".strip())


def _row(values: Array) -> str:
    if values.ndim == 2:
        return "[" + "; ".join(_row(row).strip("[]") for row in values) + "]"
    return "[" + ", ".join(f"{value:.9g}" for value in values) + "]"


def _dynamics(compiled: CompiledRobot, expected: Tree, found: Tree, size: float, seed: int) -> list[Finding]:
    """Mass matrix and gravity at random configurations, MuJoCo's own against those of the other tree."""
    names = [joint.name for joint in compiled.robot.joints]
    of_expected = {joint.name: joint for joint in expected.joints}
    order = [[joint.name for joint in found.joints].index(name) for name in names]
    limits = np.array([of_expected[name].limits for name in names])
    spans = np.where(np.isfinite(limits), limits, np.array([-UNLIMITED_SPAN, UNLIMITED_SPAN]))
    random = np.random.default_rng(seed)
    heaviest = sum(body.mass for body in expected.bodies) * 9.81
    lever = np.array([1.0 if of_expected[name].kind == SLIDE else size for name in names])
    findings = []
    for _ in range(CONFIGURATIONS):
        positions = random.uniform(spans[:, 0], spans[:, 1])
        mass, gravity = mass_and_gravity_of_mujoco(compiled.mjcf, positions)
        of_found = np.empty(len(names))
        of_found[order] = positions
        other_mass, other_gravity = mass_and_gravity(found, of_found)
        scale = np.sqrt(np.outer(np.diag(mass), np.diag(mass)))
        where = f"at {dict(zip(names, np.round(positions, 6).tolist(), strict=True))}"
        findings += _worst("mass matrix", where, names, mass, other_mass[np.ix_(order, order)], scale)
        findings += _worst("gravity", where, names, gravity, other_gravity[order], heaviest * lever)
    return findings


def _worst(quantity: str, where: str, names: list[str], want: Array, have: Array, scale: Array) -> list[Finding]:
    errors = np.abs(have - want) / scale
    place = np.unravel_index(int(np.argmax(errors)), errors.shape)
    joints = ", ".join(repr(names[index]) for index in place)
    return [
        Finding(
            quantity,
            f"joint {joints} {where}",
            float(errors[place]),
            f"{want[place]:.12g} SI",
            f"{have[place]:.12g} SI",
        )
    ]
