# SPDX-License-Identifier: Apache-2.0
"""Where a point of a serial chain is, as a function of the joints: product of exponentials, on numpy arrays or tensors.

Everything stands in world coordinates at the configuration where all joints are at 0 (Lynch and Park 2017, "Modern
Robotics", section 4.1): the point is moved by the last joint before it first, by the one nearest to the base last.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mbrl_core.libraries import Batch, array_library
from mbrl_core.obstacles import ChainPoint

Vector = tuple[Batch, Batch, Batch]
Numbers = tuple[float, float, float]


@dataclass(frozen=True)
class ChainJoint:
    """A joint between base and point: `index` among the robot's joints; unit `axis` and, of a hinge, a point `anchor`
    on it (m), in world coordinates with all joints at 0. Raises ValueError on an axis without direction."""

    index: int
    hinge: bool
    axis: Numbers
    anchor: Numbers = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        length = math.hypot(*self.axis)
        if not length > 0.0:
            raise ValueError(f"axis of joint {self.index}: got {list(self.axis)}, expected a direction")
        object.__setattr__(self, "axis", tuple(part / length for part in self.axis))


def point_of_chain(joints: Sequence[ChainJoint], point: Sequence[float], state: Batch) -> Vector:
    """Coordinates (m), each [...], of what is at `point` [3] with all joints at 0, at states [..., state_size], whose
    first entries are the joints' positions. `joints` stand in order from the base."""
    zero = array_library(state).zeros_like(state[..., 0])
    moved: Sequence[Batch] = point
    for joint in reversed(joints):
        moved = _moved(joint, moved, state[..., joint.index])
    return (zero + moved[0], zero + moved[1], zero + moved[2])


def moving_point(joints: Sequence[ChainJoint], point: Sequence[float], state: Batch, joint_count: int) -> ChainPoint:
    """As `point_of_chain`, with its velocity (m/s); velocities begin at `joint_count` in the state."""
    zero = array_library(state).zeros_like(state[..., 0])
    place: Sequence[Batch] = point
    speed: Sequence[Batch] = (0.0, 0.0, 0.0)
    for joint in reversed(joints):
        rate = state[..., joint_count + joint.index]
        position = state[..., joint.index]
        place = _moved(joint, place, position)
        if not joint.hinge:
            speed = [part + along * rate for part, along in zip(speed, joint.axis, strict=True)]
            continue
        arm = [part - base for part, base in zip(place, joint.anchor, strict=True)]
        turned = _turned(joint.axis, speed, position)
        speed = [part + rate * across for part, across in zip(turned, _cross(joint.axis, arm), strict=True)]
    return ChainPoint(tuple(zero + part for part in place), tuple(zero + part for part in speed))


def _moved(joint: ChainJoint, point: Sequence[Batch], position: Batch) -> list[Batch]:
    if not joint.hinge:
        return [part + along * position for part, along in zip(point, joint.axis, strict=True)]
    arm = [part - base for part, base in zip(point, joint.anchor, strict=True)]
    turned = _turned(joint.axis, arm, position)
    return [part + base for part, base in zip(turned, joint.anchor, strict=True)]


def _turned(axis: Numbers, vector: Sequence[Batch], angle: Batch) -> list[Batch]:
    """Rodrigues: v_along + cos (v - v_along) + sin (axis x v), without the terms that are 0 for this axis."""
    library = array_library(angle)
    cosine, sine = library.cos(angle), library.sin(angle)
    across = _cross(axis, vector)
    turned = []
    for row in range(3):
        along = [axis[row] * part for part in axis]
        rest = [(1.0 if row == column else 0.0) - part for column, part in enumerate(along)]
        turned.append(_sum(along, vector) + cosine * _sum(rest, vector) + sine * across[row])
    return turned


def _cross(axis: Numbers, vector: Sequence[Batch]) -> list[Batch]:
    x, y, z = axis
    return [_sum((0.0, -z, y), vector), _sum((z, 0.0, -x), vector), _sum((-y, x, 0.0), vector)]


def _sum(coefficients: Sequence[float], vector: Sequence[Batch]) -> Batch:
    total: Batch = 0.0
    for coefficient, part in zip(coefficients, vector, strict=True):
        if coefficient != 0.0:
            total = total + (part if coefficient == 1.0 else coefficient * part)
    return total
