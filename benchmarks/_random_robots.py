# SPDX-License-Identifier: Apache-2.0
"""Robots that nobody has seen before, drawn as MJCF or URDF: chains, and carts with a pole that stands on them."""

import math
from dataclasses import dataclass

import numpy as np

GRAVITY = 9.81


@dataclass(frozen=True)
class Link:
    """A link and the joint that moves it against the last one: `axis` [3] in the last link's frame, `vector` [3] (m)
    from the joint to the next one, mass in kg, effort in N or N m (0: no motor), damping in SI units of the joint."""

    name: str
    hinge: bool
    axis: tuple[float, float, float]
    vector: tuple[float, float, float]
    mass: float
    limits: tuple[float, float] | None
    damping: float
    effort: float

    @property
    def length(self) -> float:
        return math.hypot(*self.vector)


def random_robot(seed: int, joints: int | None = None) -> list[Link]:
    """A chain of two to four joints, hinges with oblique axes and sometimes a slide at the base, whose motors hold it
    anywhere with a third to two thirds of their efforts."""
    random = np.random.default_rng(seed)
    count = joints or int(random.integers(2, 5))
    shapes = []
    for number in range(count):
        hinge = number > 0 or random.uniform() > 0.25
        axis = random.normal(size=3) * [1.0, 1.0, 0.4] if hinge else np.array([1.0, random.normal() * 0.2, 0.0])
        direction = random.normal(size=3) * 0.3 + [0.0, 0.0, 1.0]
        vector = direction / np.linalg.norm(direction) * random.uniform(0.2, 0.45)
        shapes.append((hinge, axis / np.linalg.norm(axis), vector, random.uniform(0.3, 1.5)))
    links = []
    for number, (hinge, axis, vector, mass) in enumerate(shapes):
        beyond = shapes[number:]
        weight = GRAVITY * sum(other[3] for other in beyond)
        reach = sum(float(np.linalg.norm(other[2])) for other in beyond)
        strength = random.uniform(1.5, 3.0)
        inertia = sum(other[3] for other in beyond) * reach**2 / 3.0
        limit = random.uniform(1.6, 3.0) if hinge else random.uniform(0.5, 1.0)
        links.append(
            Link(
                f"joint{number}",
                hinge,
                _rounded(axis),
                _rounded(vector),
                round(float(mass), 3),
                None if hinge and random.uniform() < 0.3 else (-round(float(limit), 3), round(float(limit), 3)),
                round(float(random.uniform(0.1, 1.0) * (inertia if hinge else weight / GRAVITY)), 4),
                round(float(strength * weight * (0.5 * reach if hinge else 0.5)), 2),
            )
        )
    return links


def random_balancer(seed: int) -> list[Link]:
    """A cart on a rail, which a motor can accelerate by 6 to 25 m/s^2, and on it, free, a pole that stands."""
    random = np.random.default_rng([seed, 1])
    turn = random.uniform(0.0, 2.0 * math.pi)
    rail, axle = np.array([math.cos(turn), math.sin(turn), 0.0]), np.array([-math.sin(turn), math.cos(turn), 0.0])
    length, mass, pole = random.uniform(0.25, 1.0), random.uniform(0.5, 10.0), random.uniform(0.1, 0.6)
    travel, angle = round(float(random.uniform(0.8, 2.0)), 3), round(float(random.uniform(0.8, 3.0)), 3)
    total = mass * (1.0 + pole)
    friction = random.uniform(0.0, 0.5) * total
    swing = random.uniform(0.0, 0.1) * mass * pole * length**2
    push = round(float(random.uniform(6.0, 25.0) * total), 2)
    cart = Link("cart", False, _rounded(rail), (0.0, 0.0, 0.05), round(float(mass), 3), (-travel, travel),
                round(float(friction), 4), push)  # fmt: skip
    stick = Link("pole", True, _rounded(axle), (0.0, 0.0, round(float(length), 3)), round(float(mass * pole), 3),
                 (-angle, angle), round(float(swing), 5), 0.0)  # fmt: skip
    return [cart, stick]


def _rounded(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 4) for value in values)
    return x, y, z


def _row(values: tuple[float, ...] | np.ndarray) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def mjcf_text(links: list[Link]) -> str:
    """The robot as MJCF, one body in the other."""
    text = ""
    for link in reversed(links):
        limits = "" if link.limits is None else f' limited="true" range="{_row(link.limits)}"'
        text = (
            f'<body name="{link.name}_link" pos="{{place}}">'
            f'<joint name="{link.name}" type="{"hinge" if link.hinge else "slide"}" axis="{_row(link.axis)}"'
            f' damping="{link.damping}"{limits}/>'
            f'<geom type="capsule" size="0.03" fromto="0 0 0 {_row(link.vector)}" mass="{link.mass}" contype="0"'
            f' conaffinity="0"/>{text.replace("{place}", _row(link.vector))}</body>'
        )
    motors = "".join(
        f'<motor joint="{link.name}" gear="{link.effort}" ctrllimited="true" ctrlrange="-1 1"/>'
        for link in links
        if link.effort
    )
    return (
        '<mujoco model="random"><compiler angle="radian"/><option timestep="0.005" integrator="implicitfast"/>'
        f"<worldbody>{text.replace('{place}', '0 0 0')}</worldbody><actuator>{motors}</actuator></mujoco>"
    )


def urdf_text(links: list[Link]) -> str:
    """The same robot as URDF: rods, whose inertia is that of a thin one with a thickness."""
    parts = ['<link name="base"/>']
    parent, place = "base", (0.0, 0.0, 0.0)
    for link in links:
        along = np.array(link.vector) / link.length
        inertia = link.mass * (link.length**2 / 12.0 * (np.eye(3) - np.outer(along, along)) + 0.02**2 * np.eye(3))
        places = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}
        moments = " ".join(f'{name}="{inertia[place]:.9g}"' for name, place in places.items())
        parts.append(
            f'<link name="{link.name}_link"><inertial><origin xyz="{_row(np.array(link.vector) / 2.0)}"/>'
            f'<mass value="{link.mass}"/><inertia {moments}/></inertial>'
            f'<visual><geometry><mesh filename="package://random_description/{link.name}.stl"/></geometry></visual></link>'
        )
        kind = "prismatic" if not link.hinge else "continuous" if link.limits is None else "revolute"
        ends = "" if link.limits is None else f'lower="{link.limits[0]}" upper="{link.limits[1]}" '
        parts.append(
            f'<joint name="{link.name}" type="{kind}"><parent link="{parent}"/><child link="{link.name}_link"/>'
            f'<origin xyz="{_row(place)}"/><axis xyz="{_row(link.axis)}"/>'
            f'<limit {ends}effort="{link.effort}" velocity="6"/><dynamics damping="{link.damping}"/></joint>'
        )
        parent, place = f"{link.name}_link", link.vector
    return f'<?xml version="1.0"?><robot name="random">{"".join(parts)}</robot>'
