# SPDX-License-Identifier: Apache-2.0
"""Where a robot is with respect to the circles or spheres that it must not hit, on numpy arrays or torch tensors."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mbrl_core.libraries import Batch, array_library

SMALLEST_LENGTH = 1e-6  # m: keeps the derivative of a distance finite where it is zero


def checked_obstacles(values: Iterable[Any], dimensions: int) -> tuple[float, ...]:
    """Centre and radius (m) of obstacles, one after the other, in a workspace of `dimensions`; 0 = without obstacles.

    Raises ValueError that says what came and what was expected.
    """
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"got {values!r}, expected numbers, one obstacle's after the other's") from None
    if numbers and dimensions == 0:
        raise ValueError("got some, expected none: this kind has no chain")
    if len(numbers) % (dimensions + 1):
        raise ValueError(
            f"got {len(numbers)} numbers, expected a multiple of {dimensions + 1}: centre ({dimensions}) and radius of"
            " each, m"
        )
    for sphere in spheres_of(numbers, dimensions):
        if not all(math.isfinite(value) for value in sphere) or sphere[-1] <= 0.0:
            raise ValueError(f"got {list(sphere)}, expected finite numbers and a radius above 0")
    return numbers


def spheres_of(obstacles: tuple[float, ...], dimensions: int) -> list[tuple[float, ...]]:
    """(centre, radius) of each obstacle."""
    size = dimensions + 1
    return [obstacles[first : first + size] for first in range(0, len(obstacles), size)]


@dataclass(frozen=True)
class ChainPoint:
    """One point of a robot: its coordinates (m) and their velocities (m/s), one Batch [...] or number a dimension."""

    position: tuple[Batch, ...]
    velocity: tuple[Batch, ...]


@dataclass(frozen=True)
class Nearest:
    """The point of a robot that is nearest to an obstacle, or deepest in one.

    Attributes:
        clearance: [...], distance of the point to the obstacle's surface (m), negative inside.
        speed: [...], its speed (m/s).
    """

    clearance: Batch
    speed: Batch


ORIGIN = ChainPoint((0.0, 0.0), (0.0, 0.0))


def planar_link(start: ChainPoint, length: float, angle: Batch, rate: Batch) -> ChainPoint:
    """The far end of a link of `length` (m) that leaves `start` at `angle` (rad, from the first axis to the second),
    which grows by `rate` (rad/s)."""
    library = array_library(angle)
    horizontal, vertical = length * library.cos(angle), length * library.sin(angle)
    return ChainPoint(
        (start.position[0] + horizontal, start.position[1] + vertical),
        (start.velocity[0] - rate * vertical, start.velocity[1] + rate * horizontal),
    )


def hanging_link(start: ChainPoint, length: float, angle: Batch, rate: Batch) -> ChainPoint:
    """As `planar_link` in the plane x, z, but `angle` is 0 when the link hangs along -z and grows with rotation about
    +y: the end is at start + length (-sin angle, -cos angle)."""
    return planar_link(start, length, -angle - 0.5 * math.pi, -rate)


def nearest_point(chain: Sequence[ChainPoint], spheres: Sequence[Sequence[float]]) -> Nearest:
    """Which point of the straight links between successive points of `chain` is nearest to one of `spheres`.

    `spheres` holds (centre, radius) of each, one number more than the chain has dimensions (m). A link's point
    at share s has the position a + s (b - a) and, links being rigid, the velocity in the same proportion; the share
    nearest to the centre c is s = clip((c - a).(b - a) / |b - a|^2, 0, 1). Between equally near ones the first counts.
    Raises ValueError without links or spheres.
    """
    best: Nearest | None = None
    for start, end in pairwise(chain):
        for sphere in spheres:
            found = _nearest_of_link(start, end, sphere)
            if best is None:
                best = found
            else:
                library = array_library(found.clearance)
                closer = found.clearance < best.clearance
                best = Nearest(
                    library.where(closer, found.clearance, best.clearance),
                    library.where(closer, found.speed, best.speed),
                )
    if best is None:
        raise ValueError(f"got {len(chain)} points and {len(spheres)} spheres, expected at least 2 and 1")
    return best


def _nearest_of_link(start: ChainPoint, end: ChainPoint, sphere: Sequence[float]) -> Nearest:
    *centre, radius = sphere
    along = [b - a for a, b in zip(start.position, end.position, strict=True)]
    towards = [c - a for a, c in zip(start.position, centre, strict=True)]
    squared_length = _dot(along, along) + SMALLEST_LENGTH**2
    library = array_library(squared_length)
    share = library.clip(_dot(along, towards) / squared_length, 0.0, 1.0)
    offset = [t - share * b for t, b in zip(towards, along, strict=True)]
    velocity = [a + share * (b - a) for a, b in zip(start.velocity, end.velocity, strict=True)]
    distance = library.sqrt(_dot(offset, offset) + SMALLEST_LENGTH**2)
    return Nearest(distance - radius, library.sqrt(_dot(velocity, velocity) + SMALLEST_LENGTH**2))


def _dot(first: Sequence[Any], second: Sequence[Any]) -> Any:
    return sum(a * b for a, b in zip(first, second, strict=True))
